"""The script, with each of the configurations that ship beside it."""

import runpy
import shlex
import sys
from pathlib import Path

import pytest

from dac_tokenize.corpus import corpus_info

ROOT = Path(__file__).parent.parent.parent
CONFIGS = sorted(
    path.name
    for path in (ROOT / "configs").glob("*.yaml")
    if "tokenize_corpus.py" in path.read_text().splitlines()[0]
)


def test_there_are_configurations():
    assert {"local.yaml", "portable.yaml", "processes.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_configuration(config, tmp_path, monkeypatch, capsys):
    """Its first line is the command that runs it; only the output goes elsewhere."""
    monkeypatch.chdir(ROOT)
    first = (ROOT / "configs" / config).read_text().splitlines()[0]
    comment, program, *arguments = shlex.split(first)
    assert (comment, program) == ("#", "python")
    assert arguments == ["pipelines/tokenize_corpus.py", "--config", f"configs/{config}"]
    output = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(output)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(arguments[0], run_name="__main__")
    assert end.value.code == 0, capsys.readouterr().err
    info = corpus_info(str(output))
    assert (info.finished, info.clips, info.failed) == (True, 6, 0)
    assert info.seconds > 60
