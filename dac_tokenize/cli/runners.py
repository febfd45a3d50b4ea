"""Beam's side of the command line: its options and its runners."""

# Beam is annotated in parts only.
# mypy: allow-untyped-calls, allow-subclassing-any

import difflib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)

from dac_tokenize.cli.options import Parser, unknown_option
from dac_tokenize.errors import UsageError

LOCAL_RUNNER = "FnApiRunner"
"""The runner unless one is asked for: Beam's own default would look for programs to download."""


class _BeamParser(Parser, _BeamArgumentParser):
    """A parser of Beam's options that raises instead of ending the process."""


@functools.cache
def beam_parser() -> Parser:
    """Return a parser of all options that Beam itself knows."""
    parser = _BeamParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)
    return parser


@functools.cache
def beam_names() -> frozenset[str]:
    """Return the names of all options that Beam itself knows."""
    return frozenset(flag.lstrip("-") for flag in beam_parser()._option_string_actions)


@dataclass(frozen=True, slots=True)
class Runner:
    """Where a pipeline runs.

    Attributes:
        name: as Beam knows it.
        is_local: whether it is the one that runs without any service.
        is_in_process: whether the work is done in this process.
    """

    name: str
    is_local: bool
    is_in_process: bool


def runner_of(beam_options: Sequence[str]) -> Runner:
    """Return the runner asked for; `LOCAL_RUNNER` unless one is.

    Raises:
        UsageError: Beam has no such runner, or an option has a wrong value.
    """
    given = beam_parser().parse_known_args(list(beam_options))[0]
    name = given.runner or LOCAL_RUNNER
    known = {runner.lower(): runner for runner in StandardOptions.KNOWN_RUNNER_NAMES}
    known[LOCAL_RUNNER.lower()] = LOCAL_RUNNER
    found = known.get(name.lower()) or known.get(name.lower() + "runner")
    if found is None and "." not in name:
        nearest = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.0)[0]
        raise UsageError(f"Beam has no runner {name!r}; the nearest is {known[nearest]}")
    is_local = found == LOCAL_RUNNER
    return Runner(
        found or name, is_local, is_local and given.direct_running_mode != "multi_processing"
    )


def check_beam_options(beam_options: Sequence[str], own_names: Iterable[str]) -> None:
    """Refuse what is neither ours nor Beam's.

    Other runners than the local one have options that only their job server knows, so there just
    what looks like a misspelt option of ours is refused.

    Args:
        beam_options: as on the command line.
        own_names: the command's own options.

    Raises:
        UsageError: an option is unknown; the nearest known one is named.
    """
    runner = runner_of(beam_options)
    _, unknown = beam_parser().parse_known_args(list(beam_options))
    own = list(own_names)
    for option in unknown:
        if not option.startswith("--"):
            continue
        name = option.partition("=")[0].lstrip("-").replace("-", "_")
        near_ours = difflib.get_close_matches(name, own, n=1, cutoff=0.8)
        if runner.is_local or near_ours:
            raise UsageError(unknown_option(option, {*own, *beam_names()}))
