"""Runs of the command line forked from one process that has imported everything.

Reads one JSON list a line from stdin: NAME=VALUE for the environment (PATIENCE_SECONDS is how long
a store that does not answer is given), arguments. Forks a run of
`dac-tokenize` with them and prints its process number; prints number and exit status when it has
ended. So a run starts within milliseconds, and is a process of its own that can be killed.
"""

import contextlib
import gc
import json
import logging
import os
import select
import sys
import tempfile

import s3fs  # noqa: F401
import torch
from transformers import DacModel  # noqa: F401

import dac_tokenize.beam
import dac_tokenize.cli.running
import dac_tokenize.sources
import dac_tokenize.tokenizer  # noqa: F401
from dac_tokenize import retries
from dac_tokenize.cli import main
from dac_tokenize.cli.options import build_parser


def say(*words) -> None:
    print(*words, flush=True)


def run(arguments) -> None:
    """Be one run, from start to end."""
    log = os.open(os.environ["RUNS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    while "=" in arguments[0]:
        name, _, value = arguments.pop(0).partition("=")
        os.environ[name] = value
    tempfile.tempdir = None  # as TMPDIR says
    retries.PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", retries.PATIENCE_SECONDS))
    logging.getLogger().handlers.clear()  # what a library logged on import made one
    status = 99
    try:
        status = main(arguments)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    torch.set_num_threads(1)
    build_parser()
    gc.freeze()
    running = set()
    say("ready")
    while True:
        if select.select([sys.stdin], [], [], 0.02)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            if (pid := os.fork()) == 0:
                run(json.loads(line))
            running.add(pid)
            say("started", pid)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.discard(pid)
                say("ended", pid, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    serve()
