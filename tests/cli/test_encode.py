import logging
import resource
import shutil
import signal
import sys
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest

from dac_tokenize.cli.quiet import quiet_libraries, runner_logs
from dac_tokenize.cli.running import raise_error_of_worker
from dac_tokenize.corpus import iter_rows
from dac_tokenize.errors import CodecError, CorpusError
from tests.codec.models import reference_encode

WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2", "--num-threads=1")


def test_all_is_done(encode, call, clips, model, tmp_path):
    done = encode()
    assert done.status == 0
    assert "4 of 4 clips encoded" in done.out
    rows = {row["key"]: row for row in iter_rows(str(tmp_path / "out"))}
    assert rows.keys() == clips.keys()
    for key, clip in clips.items():
        np.testing.assert_array_equal(rows[key]["audio_codes"], reference_encode(model, clip))
    num_frames = sum(-(-clip.size // 8) for clip in clips.values())
    info = call("info", tmp_path / "out")
    lines = dict(line.split(maxsplit=1) for line in info.out.splitlines())
    assert (lines["clips"], lines["frames"]) == ("4 of 4", f"{num_frames:,}")
    assert lines["tokens"] == f"{3 * num_frames:,}"
    assert lines["state"] == "finished"


def test_options_reach_the_corpus(encode, call, tmp_path):
    assert encode("--codebooks=2", "--max-clip-seconds=10", "--allow-failures").status == 0
    rows = list(iter_rows(str(tmp_path / "out")))
    assert len(rows) == 3
    assert {row["audio_codes"].shape[0] for row in rows} == {2}
    assert "2 of 16 entries" in call("info", tmp_path / "out").out


def test_second_run_changes_nothing(encode, tmp_path):
    encode()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = encode()
    assert again.status == 0
    assert "4 of 4 clips encoded" in again.out
    assert before == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}


def test_some_inputs_fail(encode, sounds, tmp_path):
    (sounds / "bad.wav").write_text("no sound")
    (sounds / "notes.txt").write_text("no sound either")
    done = encode()
    assert done.status == 3
    assert "4 of 5 clips encoded" in done.out
    assert "1 failed, listed in" in done.out
    assert "  bad.wav: AudioError: " in done.out
    assert "left out 1 files that are not audio by their suffix (1 .txt)" in done.err
    assert pq.read_table(tmp_path / "out/_failed.parquet")["key"].to_pylist() == ["bad.wav"]
    assert encode("--allow-failures").status == 0


def test_long_lists_of_failures_are_cut(encode, sounds):
    for index in range(12):
        (sounds / f"bad{index:02d}.wav").write_text("no sound")
    done = encode()
    assert "12 failed" in done.out
    assert done.out.rstrip().endswith("and 2 more")


@pytest.mark.parametrize("where", [(), WORKERS], ids=["in_memory", "multi_processing"])
def test_worker_that_cannot_write(encode, codec, tmp_path, where):
    """The sentence comes through what Beam wraps around it, on one line."""
    assert encode().status == 0
    shard = next((tmp_path / "out/data").glob("train-00001-*"))
    shard.unlink()
    shard.mkdir()
    (shard / "in the way").write_text("")
    done = encode(*where)
    assert done.status == 1
    (line,) = [one for one in done.err.splitlines() if "cannot be written" in one]
    assert line.startswith("dac-tokenize: data/train-00001-of-")
    assert line.endswith("run again to go on")
    assert "while running" not in done.err


def test_two_worker_processes_write_the_same_bytes(encode, tmp_path):
    assert encode().status == 0
    names = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")]
    shutil.move(tmp_path / "out", tmp_path / "one")
    assert encode(*WORKERS).status == 0
    assert len(names) > 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


class TestMistakes:
    """One sentence for each, and nothing of a traceback (which `call` looks for)."""

    def check(self, done, status, sentence):
        assert done.status == status
        assert sentence in done.err
        assert done.out == ""

    def test_no_such_input(self, encode, tmp_path):
        done = encode(inputs=[tmp_path / "none"])
        self.check(done, 1, f"there is no file or folder {tmp_path}/none")
        assert not (tmp_path / "out/_plan/plan.json").exists()

    def test_no_audio(self, encode, tmp_path):
        (tmp_path / "texts").mkdir()
        (tmp_path / "texts/a.txt").write_text("")
        self.check(encode(inputs=[tmp_path / "texts"]), 1, "1 .txt")

    def test_empty_input(self, encode):
        self.check(encode(inputs=[""]), 2, "an INPUT is empty")

    def test_output_is_a_file(self, encode, tmp_path):
        (tmp_path / "out").write_text("")
        self.check(encode(), 2, f"--output {tmp_path}/out is a file")

    def test_output_below_a_file(self, encode, tmp_path):
        (tmp_path / "file").write_text("")
        done = encode("--output", tmp_path / "file/out")
        assert (done.status, done.out) == (1, "")
        assert "ot a directory" in done.err

    def test_output_holds_something_else(self, encode, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis.tex").write_text("")
        self.check(encode(), 1, "is not empty and holds no plan of dac_tokenize")

    def test_output_without_permission(self, encode, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied", str(tmp_path / "out"))

        monkeypatch.setattr("dac_tokenize.corpus.planning.sweep_temporaries", refuse)
        self.check(encode(), 1, "Permission denied")

    @pytest.mark.parametrize("output", ["nosuch://a/b", "abfs://needs/adlfs"])
    def test_store_that_does_not_exist(self, encode, output):
        self.check(encode("--output", output), 2, f"--output {output} cannot be used")

    def test_other_codec(self, encode, other_codec):
        encode()
        self.check(encode(model=other_codec), 1, "holds another corpus: it was made with the codec")

    def test_other_inputs(self, encode, sounds):
        encode()
        self.check(encode(inputs=[sounds / "a"]), 1, "holds another corpus: it was made from")

    def test_other_options(self, encode):
        encode()
        self.check(encode("--shard-seconds=7"), 1, "it was made with shard_seconds 5")

    def test_damaged_plan(self, encode, tmp_path):
        encode()
        (tmp_path / "out/_plan/plan.json").write_text("{")
        self.check(encode(), 1, "is damaged: plan.json is no plan")

    def test_codec_that_does_not_load(self, encode, tmp_path):
        self.check(encode(model=tmp_path / "codec"), 1, "does not load")
        (tmp_path / "codec").mkdir()
        self.check(encode(model=tmp_path / "codec"), 1, "expected 'dac'")

    def test_codec_without_so_many_codebooks(self, encode):
        self.check(encode("--codebooks=4"), 1, "num_codebooks is 4, but the codec")

    @pytest.mark.parametrize("more", [(), WORKERS])
    def test_no_such_precision(self, encode, more):
        self.check(encode("--precision=float8", *more), 2, "precision is 'float8'")

    def test_no_such_device(self, encode):
        self.check(encode("--device=cuda:99"), 2, "device is 'cuda:99'")

    def test_workers_and_beam(self, encode):
        result = encode("--workers=2", "--runner=FnApiRunner")
        self.check(result, 2, "--runner=FnApiRunner is an option of Beam's; give one or the other")

    @pytest.mark.parametrize(
        ("option", "sentence"),
        [
            ("--shard-seconds=0", "--shard-seconds is 0; expected more than 0"),
            ("--max-clip-seconds=-1", "max_clip_seconds must be above 0"),
            ("--num-threads=0", "--num-threads is 0"),
            ("--workers=0", "--workers is 0; expected 1 or more"),
            ("--stall-timeout-seconds=0", "--stall-timeout-seconds is 0; expected more than 0"),
            ("--stall-timeout-seconds=9", "--stall-timeout-seconds needs --workers"),
            ("--shard-second=5", "the nearest is --shard-seconds"),
        ],
    )
    def test_option_out_of_range(self, encode, option, sentence):
        self.check(encode(option), 2, sentence)

    @pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs RLIMIT_FSIZE")
    def test_disk_is_full(self, encode, tmp_path):
        assert encode().status == 0
        for shard in (tmp_path / "out/data").iterdir():
            shard.unlink()
        (tmp_path / "out/_manifest.json").unlink()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        try:
            done = encode()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        self.check(done, 1, "cannot be written")
        assert "run again to go on" in done.err
        assert [p for p in (tmp_path / "out").rglob("*") if ".tmp-" in p.name] == []
        assert encode().status == 0


@pytest.mark.parametrize("damage", ["plan", "manifest", "none"])
def test_info_of_what_is_no_corpus(encode, call, tmp_path, damage):
    if damage != "none":
        encode()
        name = {"plan": "_plan/plan.json", "manifest": "_manifest.json"}[damage]
        (tmp_path / "out" / name).write_text('{"files": 3}')
    done = call("info", tmp_path / "out")
    assert (done.status, done.out) == (1, "")
    assert str(tmp_path / "out") in done.err


def test_info_of_an_unfinished_corpus(encode, call, tmp_path):
    encode()
    (tmp_path / "out/_manifest.json").unlink()
    next((tmp_path / "out/data").glob("train-00001-*")).unlink()
    done = call("info", tmp_path / "out")
    assert done.status == 0
    assert "state           1 of 2 shards" in done.out


def test_help_and_version(call):
    for arguments in (["--help"], ["encode", "--help"], ["decode", "--help"], ["info", "--help"]):
        assert call(*arguments).status == 0
    assert call("--version").out.startswith("dac-tokenize 0.")


def test_reader_that_has_gone(encode, call, tmp_path, monkeypatch):
    encode()

    class Gone:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            pass

        def fileno(self):
            return devnull.fileno()

    with open("/dev/null", "w") as devnull:
        monkeypatch.setattr(sys, "stdout", Gone())
        from dac_tokenize.cli import main

        assert main(["info", str(tmp_path / "out")]) == 1


WRAPPED = """Traceback (most recent call last):
  File "beam/common.py", line 1, in process
dac_tokenize.errors.CorpusError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "beam/common.py", line 2, in _reraise_augmented
dac_tokenize.errors.{name}: a codec's
  message [on two] lines [while running 'TokenizeShard-ptransform-12']
"""


def test_error_of_a_worker():
    with pytest.raises(CodecError) as caught:
        raise_error_of_worker(WRAPPED.format(name="CodecError"))
    assert str(caught.value) == "a codec's message [on two] lines"
    with pytest.raises(CorpusError, match=r"^a codec's"):
        raise_error_of_worker(WRAPPED.format(name="OfALaterVersion"))
    with pytest.raises(CorpusError, match=r"^first$"):
        raise_error_of_worker("dac_tokenize.errors.CorpusError: first\n")
    raise_error_of_worker("ValueError: dac_tokenize.errors is no error")


def test_only_our_own_warnings_are_shown(capsys):
    level = logging.getLogger().level
    with quiet_libraries():
        logging.getLogger("apache_beam").error("noise")
        logging.warning("noise")
        warnings.warn("noise", DeprecationWarning, stacklevel=1)
        logging.getLogger("dac_tokenize.corpus").warning("a warning")
        logging.getLogger("dac_tokenize.corpus").info("detail")
        with runner_logs(shown=True):
            client = logging.getLogger("apache_beam.runners.portability.portable_runner")
            client.info("Job state changed to DONE\nnoise")
            logging.getLogger("apache_beam.transforms").info("noise")
        client.info("noise")
    assert capsys.readouterr().err == (
        "dac-tokenize: a warning\ndac-tokenize: Job state changed to DONE\n"
    )
    assert logging.getLogger().level == level


def test_handlers_of_signals_are_put_back(call):
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        call("--version")
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
