"""Commands given a store that cannot be had."""

import pytest

from dac_tokenize.cli import main

COMMANDS = [
    "encode {store} --output {folder}/out",
    "info {store}",
    "verify {store}",
    "decode {store} --output {folder}/out",
    "audit {store} --output {folder}/out",
    "compare dac_tokenize/sounds --models shipped --output {store}",
    "compare {store} --models shipped --output {folder}/out",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("nosuch://bucket/corpus", "Protocol not known: nosuch"),
        ("abfs://bucket/corpus", "Install adlfs to access Azure"),
    ],
)
def test_store_without_a_library(command, store, reason, tmp_path, capsys):
    """One sentence says which, and nothing is done."""
    words = command.format(store=store, folder=tmp_path).split()
    status = main(words)
    said = capsys.readouterr()
    assert said.err.startswith(f"dac-tokenize: cannot open {store}"), said.err
    assert f": {reason}" in said.err
    assert said.err.count("\n") == 1
    assert status == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
