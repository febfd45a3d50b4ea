"""Which devices the kernels are for."""

import shutil

import pytest
import torch

from dac_tokenize.codec import device as device_module
from dac_tokenize.codec.device import Once, has_kernels
from dac_tokenize.codec.geometry import encoder_chain

CHAIN = encoder_chain([2, 4, 8, 8])


@pytest.fixture
def modern(monkeypatch):
    """A machine that looks as if it had all that the kernels need."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(device_module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("CC", "cc")


def test_a_modern_gpu(modern) -> None:
    assert has_kernels(torch.device("cuda", 0), CHAIN)
    assert not has_kernels(torch.device("cpu"), CHAIN)


def test_a_gpu_of_old(modern, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not has_kernels(torch.device("cuda"), CHAIN)


def test_no_triton(modern, monkeypatch) -> None:
    monkeypatch.setattr(device_module.importlib.util, "find_spec", lambda name: None)
    assert not has_kernels(torch.device("cuda"), CHAIN)


def test_no_c_compiler(modern, monkeypatch) -> None:
    monkeypatch.delenv("CC")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not has_kernels(torch.device("cuda"), CHAIN)


def test_something_is_done_once_and_not_before_its_time() -> None:
    now, done = [100.0], []
    once = Once(60.0, lambda: done.append(now[0]), lambda: now[0])
    for now[0] in (100.0, 159.0, 161.0, 200.0, 300.0):
        once()
    assert done == [161.0]
