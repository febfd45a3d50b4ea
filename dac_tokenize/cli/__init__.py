"""The command line `dac-tokenize`.

Exit status: 0 all done; 1 the run itself failed, or `verify` found something wrong; 2 wrong usage;
3 done, but some inputs failed and are listed; 4 `audit` is done, and a threshold is not met; 130
and 143 stopped by SIGINT and SIGTERM.
"""

import os
import sys
from collections.abc import Sequence

from dac_tokenize.cli.options import parse_options
from dac_tokenize.cli.quiet import quiet_libraries
from dac_tokenize.cli.stopping import Stopped, stoppable
from dac_tokenize.errors import DacTokenizeError, UsageError

__all__ = [
    "EXIT_FAILED",
    "EXIT_SOME_INPUTS_FAILED",
    "EXIT_THRESHOLD",
    "EXIT_USAGE",
    "main",
]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SOME_INPUTS_FAILED = 3
EXIT_THRESHOLD = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None for the process's own.

    Returns:
        The exit status.

    >>> main(["info", "/there/is/none"])
    1
    """
    try:
        with stoppable(), quiet_libraries():
            options = parse_options(sys.argv[1:] if arguments is None else list(arguments))
            return int(options.run(options))
    except UsageError as error:
        _say(error)
        _say("'dac-tokenize --help' and 'dac-tokenize COMMAND --help' list what there is")
        return EXIT_USAGE
    # No OSError is a fault of the program: the disk, the network or a folder is.
    except (DacTokenizeError, BrokenPipeError, OSError) as error:
        return _failed(error)
    except Stopped as stopped:
        _say(stopped)
        return stopped.exit_status
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)


def _failed(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has gone; Python would say so once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        _say(error)
    return EXIT_FAILED


def _say(message: object) -> None:
    print(f"dac-tokenize: {message}", file=sys.stderr, flush=True)
