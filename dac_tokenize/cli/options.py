"""The options of every command, from the command line and from YAML files."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dac_tokenize.errors import ConfigError, UsageError

_LOCAL_RUNNER = "FnApiRunner"
_OWN = {"command", "config", "run", "beam_options", "help"}


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `run` to its function."""
    from dac_tokenize import __version__
    from dac_tokenize.cli import decode, encode, info

    parser = _Parser(
        prog="dac-tokenize",
        description="Audio corpora to Descript Audio Codec tokens, and back to sound.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dac-tokenize {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for room in (encode, decode, info):
        name = room.__name__.rsplit(".", 1)[-1]
        command = commands.add_parser(
            name,
            help=room.HELP,
            description=room.DESCRIPTION,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        room.add_arguments(command)
        command.add_argument(
            "--config", metavar="FILE.yaml", help="take options from this file; the rest wins"
        )
        command.set_defaults(run=room.run, defaults=room.DEFAULTS, takes_beam=room.TAKES_BEAM)
    return parser


def parse_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return all options: the command line's before the file's before the defaults.

    Raises:
        UsageError: an option is unknown, missing or of the wrong type.
        ConfigError: so is a key of the file.
    """
    given, rest = parser.parse_known_args(arguments)
    names = set(given.defaults)
    if rest and not given.takes_beam:
        raise UsageError(_unknown(rest[0], names))
    values: dict[str, Any] = dict(given.defaults)
    beam_options: list[str] = []
    if getattr(given, "config", None):
        from_file = read_config(given.config, names, given.takes_beam)
        beam_options = _beam_flags(from_file.pop("beam", {}))
        values.update(from_file)
    values.update({k: v for k, v in vars(given).items() if k in names and v not in (None, [])})
    for name in names:
        if values[name] is REQUIRED:
            raise UsageError(f"{_option(name)} is missing; give it, or put it into --config")
    beam_options += rest
    if given.takes_beam:
        check_beam_options(beam_options, names)
    return argparse.Namespace(
        command=given.command, run=given.run, beam_options=beam_options, **values
    )


class _Required:
    """Stands for a value that must be given."""


REQUIRED = _Required()


def read_config(path: str, names: Iterable[str], takes_beam: bool) -> dict[str, Any]:
    """Read options from a YAML file: the long options' names, with underscores.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown; the nearest known one is named.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        first = " ".join(str(error).split())
        raise ConfigError(f"--config {path} is not YAML: {first}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"--config {path} holds a {type(values).__name__}; expected options, one a line, such "
            "as 'shard_seconds: 600'"
        )
    known = {*names, *(["beam"] if takes_beam else [])}
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ConfigError(
                f"--config {path} has the key {key!r}, which is no option; the nearest is "
                f"{nearest[0]!r}"
            )
    return dict(values)


def _beam_flags(options: Any) -> list[str]:
    """Return the flags for the YAML's `beam` mapping."""
    if not isinstance(options, dict):
        raise ConfigError(
            f"'beam' is a {type(options).__name__}; expected Beam's options, one a line, such as "
            "'runner: FlinkRunner'"
        )
    flags = []
    for name, value in options.items():
        if value is True:
            flags.append(f"--{name}")
        elif value is not False and value is not None:
            values = value if isinstance(value, list) else [value]
            flags += [f"--{name}={one}" for one in values]
    return flags


def runner_of(beam_options: Sequence[str]) -> str:
    """Return the name of the runner asked for; FnApiRunner unless one is."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner", default=_LOCAL_RUNNER)
    return str(parser.parse_known_args(list(beam_options))[0].runner)


def is_in_process(beam_options: Sequence[str]) -> bool:
    """Return whether the pipeline's work is done in this process."""
    return runner_of(beam_options) == _LOCAL_RUNNER and not any(
        option.startswith("--direct_running_mode") and not option.endswith("in_memory")
        for option in beam_options
    )


def check_beam_options(beam_options: Sequence[str], names: Iterable[str]) -> None:
    """Refuse what is neither ours nor Beam's.

    Other runners than the local one have options that only their job server knows, so there just
    what looks like a misspelt option of ours is refused.

    Raises:
        UsageError: an option is unknown; the nearest known one is named.
    """
    if not beam_options:
        return
    beams = _known_beam_options()
    local = runner_of(beam_options) == _LOCAL_RUNNER
    takes_value = False
    for option in beam_options:
        if not option.startswith("-"):
            if not takes_value:
                raise UsageError(f"unexpected argument {option!r}")
            takes_value = False
            continue
        name = option.lstrip("-").partition("=")[0].replace("-", "_")
        takes_value = "=" not in option
        near_ours = difflib.get_close_matches(name, list(names), n=1, cutoff=0.8)
        if name not in beams and (local or near_ours):
            raise UsageError(_unknown(option, {*names, *beams}))


def _known_beam_options() -> set[str]:
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    return {flag.lstrip("-").replace("-", "_") for flag in flags} | {"runner"}


def _option(name: str) -> str:
    return name.upper() if name in ("inputs", "corpus") else f"--{name.replace('_', '-')}"


def _unknown(option: str, names: Iterable[str]) -> str:
    name = option.lstrip("-").partition("=")[0].replace("-", "_")
    if not option.startswith("-"):
        return f"unexpected argument {option!r}"
    nearest = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.0)
    return f"unknown option {option.partition('=')[0]}; the nearest is {_option(nearest[0])}"
