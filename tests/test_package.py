"""What importing the package costs and gives."""

import ast
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import dac_tokenize

LARGE = {"torch", "transformers", "apache_beam", "datasets", "pyarrow", "soundfile", "numpy"}
IMPORT = """
import locale, os, random, signal, sys, threading, time, warnings
def flags():
    return (dict(os.environ), warnings.filters[:], signal.getsignal(signal.SIGTERM),
            signal.getsignal(signal.SIGINT), random.getstate(), locale.setlocale(locale.LC_ALL),
            threading.active_count(), sys.getrecursionlimit(), os.getcwd(), os.umask(0o22))
before, start = flags(), time.process_time()
import dac_tokenize
seconds = time.process_time() - start
assert flags() == before
print(seconds, *sys.modules)
"""


def test_import_is_quick_and_sets_nothing():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True
    )
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 0.5
    assert not LARGE & {name.partition(".")[0] for name in modules}
    assert done.stderr == ""


def test_all_is_sorted_and_complete():
    names = dac_tokenize.__all__
    assert names == sorted(names, key=lambda name: (name.isupper(), name)) == dir(dac_tokenize)
    assert len(set(names)) == len(names)
    assert set(names) == {*dac_tokenize._ROOM_OF, "__version__"}
    for name in names:
        assert getattr(dac_tokenize, name) is not None


def test_type_checkers_see_what_is_there():
    """The imports that only type checkers read name the same things in the same rooms."""
    tree = ast.parse(Path(dac_tokenize.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module.removeprefix("dac_tokenize.")
        for node in block.body
        for alias in node.names
    }
    assert seen == dac_tokenize._ROOM_OF


def test_no_such_name():
    with pytest.raises(AttributeError, match="'dac_tokenize' has no attribute 'Tokenizer'"):
        _ = dac_tokenize.Tokenizer


def test_every_error_is_exported():
    from dac_tokenize import errors

    ours = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert ours <= set(dac_tokenize.__all__)


def test_is_typed():
    assert (files("dac_tokenize") / "py.typed").is_file()


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "dac_tokenize", "--version"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"dac-tokenize {dac_tokenize.__version__}\n"
    assert done.stderr == ""
