"""One small real corpus for all tests of this folder."""

import pytest

from dac_tokenize.tokenizer import DacTokenizer
from tests.audit.corpora import cut_sounds, make_corpus


@pytest.fixture(scope="session")
def tokenizer():
    return DacTokenizer.from_pretrained(device="cpu")


@pytest.fixture(scope="session")
def clean_corpus(tokenizer, tmp_path_factory):
    """A finished corpus of the shipped speech; not to be changed."""
    folder = tmp_path_factory.mktemp("clean")
    return make_corpus(folder, tokenizer, cut_sounds(folder / "sounds"))
