import pytest

from dac_tokenize.cli.options import parse_options
from dac_tokenize.cli.runners import runner_of
from dac_tokenize.errors import ConfigError, UsageError


def encode(*arguments):
    return parse_options(["encode", *arguments])


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "options.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_defaults():
    options = encode("in", "--output", "out")
    assert vars(options) | {"run": None, "required": None} == {
        "inputs": ["in"],
        "output": "out",
        "model": None,
        "revision": None,
        "codebooks": None,
        "device": "auto",
        "precision": "float32",
        "shard_seconds": 3600.0,
        "channels": "mix",
        "max_clip_seconds": None,
        "loudness": None,
        "num_threads": 4,
        "workers": None,
        "stall_timeout_seconds": None,
        "log_format": "text",
        "allow_failures": False,
        "append": False,
        "config": None,
        "beam_options": [],
        "run": None,
        "required": None,
        "takes_beam": True,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "b", "--output", "o", "--runner", "FnApiRunner", "--codebooks=2"],
        ["--output", "o", "--runner", "FnApiRunner", "a", "--codebooks=2", "b"],
        ["--runner=FnApiRunner", "a", "--output=o", "--codebooks", "2", "b"],
        ["--runner=FnApiRunner", "--output=o", "--codebooks", "2", "--", "a", "b"],
    ],
)
def test_options_stand_in_any_order(arguments):
    options = encode(*arguments)
    assert (options.inputs, options.output, options.codebooks) == (["a", "b"], "o", 2)
    assert runner_of(options.beam_options).is_in_process


def test_flags_of_beam_take_no_value():
    options = encode("--save_main_session", "a", "--output=o", "--experiments", "x", "b")
    assert options.inputs == ["a", "b"]
    assert options.beam_options == ["--save_main_session", "--experiments", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard-second=5"], "no option --shard-second; the nearest is --shard-seconds"),
        (["--runer=X"], "no option --runer; the nearest is --runner"),
        (["--direct-num-workers=2"], "the nearest is --direct_num_workers"),
        (["--runner=Flonk"], "no runner 'Flonk'; the nearest is FlinkRunner"),
        (["--direct_num_workers=two"], "invalid int value: 'two'"),
        (["--direct_running_mode=fast"], "invalid choice: 'fast'"),
        (["--shard-seconds=abc"], "invalid number value: 'abc'"),
        (["--shard-seconds=nan"], "invalid number value: 'nan'"),
        (["--codebooks=1.5"], "invalid int value: '1.5'"),
        (["--channels=left"], "invalid choice: 'left'"),
        (["--output"], "expected one argument"),
    ],
)
def test_wrong_options(arguments, message):
    with pytest.raises(UsageError, match=message):
        encode("in", "--output=out", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "--output=o"], "INPUT is missing"),
        (["encode", "in"], "--output is missing"),
        (["info"], "CORPUS is missing"),
        (["info", "c", "--runner=FnApiRunner"], "no option --runner"),
        (["decode", "c", "--output=o", "--formt=wav"], "the nearest is --format"),
        (["decode", "c", "--output=o", "--format=mp3"], "invalid choice: 'mp3'"),
        (["encod"], "invalid choice: 'encod'"),
        ([], "required"),
    ],
)
def test_wrong_commands(arguments, message):
    with pytest.raises(UsageError, match=message):
        parse_options(arguments)


def test_other_runners_have_options_that_only_they_know():
    flags = ["--runner=FlinkRunner", "--some_new_flink_option=1"]
    assert encode("in", "--output=out", *flags).beam_options == flags
    with pytest.raises(UsageError, match="--shard-second; the nearest is --shard-seconds"):
        encode("in", "--output=out", "--runner=FlinkRunner", "--shard-second=5")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("FnApiRunner", True, True)),
        (["--runner", "fnapirunner"], ("FnApiRunner", True, True)),
        (["--direct_running_mode=multi_threading"], ("FnApiRunner", True, True)),
        (["--direct_running_mode", "multi_processing"], ("FnApiRunner", True, False)),
        (["--runner=flink"], ("FlinkRunner", False, False)),
        (["--runner=DirectRunner"], ("DirectRunner", False, False)),
        (["--runner=my.package.Runner"], ("my.package.Runner", False, False)),
    ],
)
def test_runner(flags, expected):
    runner = runner_of(flags)
    assert (runner.name, runner.is_local, runner.is_in_process) == expected


def test_file_gives_what_the_command_line_does_not(config):
    path = config(
        "inputs: [a, b]\noutput: o\nshard_seconds: 20\ncodebooks: 3\nallow_failures: true\n"
        "model: null\nbeam: {runner: FnApiRunner, direct_num_workers: 2, experiments: [x, y],"
        " save_main_session: true, streaming: false}\n"
    )
    options = encode("--config", path, "--codebooks=2", "--runner=flink")
    assert (options.inputs, options.output) == (["a", "b"], "o")
    assert (options.shard_seconds, options.codebooks, options.allow_failures) == (20.0, 2, True)
    assert isinstance(options.shard_seconds, float)
    assert options.model is None
    assert options.beam_options == [
        "--runner=FnApiRunner",
        "--direct_num_workers=2",
        "--experiments=x",
        "--experiments=y",
        "--save_main_session",
        "--runner=flink",
    ]
    assert runner_of(options.beam_options).name == "FlinkRunner"
    assert encode("c", "--config", path).inputs == ["c"]
    assert encode("--config", config("inputs: a\noutput: o")).inputs == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shard_second: 5", "'shard_second', which is no option .*nearest is 'shard_seconds'"),
        ("shard-seconds: 5", "nearest is 'shard_seconds'"),
        ("5: 5", "has the key 5"),
        ('shard_seconds: "abc"', "shard_seconds is the text 'abc'; expected a number"),
        ("shard_seconds: 1e3", "shard_seconds is the text '1e3'; expected a number"),
        ("shard_seconds: .inf", "shard_seconds is inf; expected a finite number"),
        ("shard_seconds: true", "shard_seconds is True; expected a number"),
        ("codebooks: 1.5", "codebooks is the number 1.5; expected a whole number"),
        ("codebooks: true", "codebooks is True; expected a whole number"),
        ("allow_failures: 1", "allow_failures is the number 1; expected true or false"),
        ("output: 5", "output is the number 5; expected text"),
        ("output: [a]", "output is a list; expected text"),
        ("inputs: [a, 5]", "inputs is the number 5; expected text, or a list of such"),
        ("channels: left", "channels is 'left'; expected one of mix, first, split"),
        ("beam: FlinkRunner", "'beam' is the text 'FlinkRunner'"),
        ("beam: {runner: {a: b}}", "'beam' has runner: a dict"),
        ("- a\n- b", "holds a list; expected options"),
        ("a: [", "is not YAML"),
        ("config: other.yaml", "has the key 'config'"),
    ],
)
def test_wrong_files(config, text, message):
    with pytest.raises(ConfigError, match=message):
        encode("in", "--output=out", "--config", config(text))


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        encode("in", "--output=out", f"--config={tmp_path}/none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        encode("in", "--output=out", f"--config={tmp_path}")


def test_beam_is_not_for_every_command(config):
    with pytest.raises(ConfigError, match="has the key 'beam'"):
        parse_options(["info", "c", "--config", config("beam: {runner: X}")])
    with pytest.raises(UsageError, match="no option --runer; the nearest is --runner"):
        encode("in", "--output=out", "--config", config("beam: {runer: X}"))


def test_empty_file(config):
    assert encode("in", "--output=out", "--config", config("")).inputs == ["in"]
