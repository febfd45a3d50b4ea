"""The options of every command, from the command line and from YAML files."""

import argparse
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dac_tokenize.errors import ConfigError, UsageError

_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        raise UsageError(message)


def finite(text: str | float) -> float:
    """Return a number that is one.

    Raises:
        ValueError: it is none, infinite or NaN.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


# What argparse and messages about wrong values call it.
finite.__name__ = "number"


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the program, and those of its commands."""
    from dac_tokenize import __version__
    from dac_tokenize.cli import audit, compare, decode, encode, info, verify

    parser = Parser(
        prog="dac-tokenize",
        description="Audio corpora to Descript Audio Codec tokens, and back to sound.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dac-tokenize {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    by_name: dict[str, argparse.ArgumentParser] = {}
    for room in (encode, decode, info, verify, audit, compare):
        name = room.__name__.rpartition(".")[2]
        command = commands.add_parser(
            name, help=room.HELP, description=room.DESCRIPTION, allow_abbrev=False
        )
        room.add_arguments(command)
        command.add_argument(
            "--config",
            metavar="FILE.yaml",
            help="take options from this file, named as here, with underscores; those given on "
            "the command line win",
        )
        command.set_defaults(run=room.run, required=room.REQUIRED, takes_beam=room.TAKES_BEAM)
        by_name[name] = command
    return parser, by_name


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return all options: the command line's before the file's before the defaults.

    Returns:
        The options of the command; `run` is its function, and `beam_options` are Beam's.

    Raises:
        UsageError: an option is unknown, missing or of the wrong type.
        ConfigError: so is a key of the file.
    """
    parser, commands = build_parser()
    if not arguments or arguments[0] not in commands:
        parser.parse_args(arguments)
        raise UsageError(f"there is no command {arguments[0]!r}; there are {', '.join(commands)}")
    command = commands[arguments[0]]
    own, foreign = _split(arguments[1:], command)
    values = _config_values(own, command)
    beam_options = _beam_flags(values.pop("beam", {})) + foreign
    _refuse_foreign(foreign, command)
    options = command.parse_intermixed_args(own, argparse.Namespace(**values))
    for name in options.required:
        if not getattr(options, name, None):
            raise UsageError(f"{_spelled(name)} is missing; give it, or put it into --config")
    options.beam_options = beam_options
    if beam_options:
        from dac_tokenize.cli.runners import check_beam_options

        check_beam_options(beam_options, _option_names(command))
    return options


def _split(
    arguments: Sequence[str], command: argparse.ArgumentParser
) -> tuple[list[str], list[str]]:
    """Return the arguments that are the command's own, and the options that may be Beam's."""
    own: list[str] = []
    foreign: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            return [*own, argument, *waiting], foreign
        flag, equals, _ = argument.partition("=")
        if not flag.startswith("--") or flag in command._option_string_actions:
            own.append(argument)
            continue
        foreign.append(argument)
        if not equals and waiting and not waiting[0].startswith("-") and _takes_value(flag):
            foreign.append(waiting.pop(0))
    return own, foreign


def _takes_value(flag: str) -> bool:
    """Tell whether an option of Beam's, or of a runner that Beam does not know, takes a value."""
    from dac_tokenize.cli.runners import beam_parser

    action = beam_parser()._option_string_actions.get(flag)
    return action is None or action.nargs != 0


def _refuse_foreign(foreign: Sequence[str], command: argparse.ArgumentParser) -> None:
    if foreign and not command.get_default("takes_beam"):
        raise UsageError(unknown_option(foreign[0], _option_names(command)))


def _config_values(own: Sequence[str], command: argparse.ArgumentParser) -> dict[str, Any]:
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path = parser.parse_known_args([a for a in own if a != "--"])[0].config
    return {} if path is None else read_config(path, command)


def read_config(path: str, command: argparse.ArgumentParser) -> dict[str, Any]:
    """Read options from a YAML file: the long options' names, with underscores.

    Args:
        path: of a local file.
        command: knows the options and their types.

    Returns:
        Name of the option to value; `beam` as it stands in the file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown (the nearest known one is named),
            or a value is of the wrong type.
    """
    actions = {action.dest: action for action in command._actions}
    known = set(_option_names(command))
    if command.get_default("takes_beam"):
        known.add("beam")
    values = {}
    for key, value in _yaml_mapping(path).items():
        if key not in known:
            raise ConfigError(
                f"{path} has the key {key!r}, which is no option of "
                f"'{command.prog}'; the nearest is {_nearest(str(key), known)!r}"
            )
        if value is not None:
            values[key] = value if key == "beam" else _checked(path, key, value, actions[key])
    return values


def _yaml_mapping(path: str) -> Mapping[Any, Any]:
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds {_found(values)}; expected options, one a line, such as "
            "'shard_seconds: 600'"
        )
    return values


def _checked(path: str, key: str, value: Any, action: argparse.Action) -> Any:
    """Return a value of the file as the command line would give it."""
    kind = bool if action.nargs == 0 else {int: int, finite: float}.get(action.type, str)
    is_list = action.nargs in ("*", "+")
    values = value if is_list and isinstance(value, list) else [value]
    for one in values:
        fits = isinstance(one, int | float if kind is float else kind)
        if not fits or (kind is not bool and isinstance(one, bool)):
            expected = _KINDS[kind] + (", or a list of such" if is_list else "")
            raise ConfigError(f"{path}: {key} is {_found(one)}; expected {expected}")
        if kind is float and not math.isfinite(one):
            raise ConfigError(f"{path}: {key} is {one}; expected a finite number")
        if action.choices is not None and one not in action.choices:
            expected = ", ".join(action.choices)
            raise ConfigError(f"{path}: {key} is {one!r}; expected one of {expected}")
    converted = [kind(one) for one in values]
    return converted if is_list else converted[0]


def _found(value: Any) -> str:
    names = {str: "the text", bool: "", int: "the number", float: "the number", list: "a list"}
    name = names.get(type(value), f"a {type(value).__name__}")
    return name if isinstance(value, list | dict) else f"{name} {value!r}".strip()


def _beam_flags(options: Any) -> list[str]:
    """Return the flags for the YAML's `beam` mapping."""
    if not isinstance(options, dict):
        raise ConfigError(
            f"'beam' is {_found(options)}; expected Beam's options, one a line, such as "
            "'runner: FlinkRunner'"
        )
    flags = []
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        for one in values:
            if isinstance(one, list | dict):
                raise ConfigError(f"'beam' has {name}: {_found(one)}; expected one value, or many")
            if one is True:
                flags.append(f"--{name}")
            elif one is not False and one is not None:
                flags.append(f"--{name}={one}")
    return flags


def unknown_option(option: str, names: Iterable[str]) -> str:
    """Return what is said of an option that is none; the nearest of `names` is named."""
    flag = option.partition("=")[0]
    nearest = _nearest(flag.lstrip("-").replace("-", "_"), names)
    return f"there is no option {flag}; the nearest is {_spelled(nearest)}"


def _nearest(name: str, names: Iterable[str]) -> str:
    return difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.0)[0]


def _option_names(command: argparse.ArgumentParser) -> list[str]:
    """Return the names of a command's options, with underscores."""
    return [action.dest for action in command._actions if action.dest not in ("help", "config")]


def _spelled(name: str) -> str:
    """Return an option as it is written on the command line; Beam's keep their underscores."""
    if name in ("inputs", "corpus"):
        return {"inputs": "INPUT", "corpus": "CORPUS"}[name]
    return f"--{name}" if name in _beam_names() else f"--{name.replace('_', '-')}"


def _beam_names() -> Iterable[str]:
    import sys

    if "dac_tokenize.cli.runners" not in sys.modules:
        return ()
    from dac_tokenize.cli.runners import beam_names

    return beam_names()
