"""The script, with each of the configurations that need no service."""

import runpy
import shlex
import sys
from pathlib import Path

import pytest

from dac_tokenize.corpus import corpus_info

ROOT = Path(__file__).parent.parent.parent
# Those that need no service; tests/engines looks at the others.
CONFIGS = ("local.yaml", "processes.yaml", "portable.yaml")


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
