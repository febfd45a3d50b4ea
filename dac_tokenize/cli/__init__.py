"""The command line `dac-tokenize`.

Exit status: 0 all done; 1 the run itself failed, or `verify` found something wrong; 2 wrong usage;
3 done, but some inputs failed and are listed; 4 `audit` is done, and a threshold is not met; 5
done, but some shards could not be made and are named; 130 and 143 stopped by SIGINT and SIGTERM.
"""

import logging
import os
import sys
from collections.abc import Sequence

from dac_tokenize.cli.options import parse_options
from dac_tokenize.cli.quiet import quiet_libraries, say, use_format
from dac_tokenize.cli.stopping import Stopped, stoppable
from dac_tokenize.errors import DacTokenizeError, ShardsGivenUpError, UsageError

__all__ = [
    "EXIT_FAILED",
    "EXIT_SHARDS_GIVEN_UP",
    "EXIT_SOME_INPUTS_FAILED",
    "EXIT_THRESHOLD",
    "EXIT_USAGE",
    "main",
]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SOME_INPUTS_FAILED = 3
EXIT_THRESHOLD = 4
EXIT_SHARDS_GIVEN_UP = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None for the process's own.

    Returns:
        The exit status.

    >>> main(["info", "/there/is/none"])
    1
    """
    with quiet_libraries():
        return _run(sys.argv[1:] if arguments is None else list(arguments))


def _run(arguments: list[str]) -> int:
    try:
        with stoppable():
            options = parse_options(arguments)
            use_format(getattr(options, "log_format", "text"))
            return int(options.run(options))
    except UsageError as error:
        say(error, logging.ERROR)
        say("'dac-tokenize --help' and 'dac-tokenize COMMAND --help' list what there is")
        return EXIT_USAGE
    except ShardsGivenUpError as error:
        say(error, logging.ERROR)
        return EXIT_SHARDS_GIVEN_UP
    # No OSError is a fault of the program: the disk, the network or a folder is.
    except (DacTokenizeError, BrokenPipeError, OSError) as error:
        return _failed(error)
    except Stopped as stopped:
        say(stopped, logging.WARNING)
        return stopped.exit_status
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)


def _failed(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has gone; Python would say so once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        say(error, logging.ERROR)
    return EXIT_FAILED
