"""The command line `dac-tokenize`.

Exit status: 0 all done; 1 the run itself failed; 2 wrong usage; 3 done, but some inputs failed and
are listed; 130 and 143 stopped by SIGINT and SIGTERM.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from dac_tokenize.cli.options import build_parser, parse_options
from dac_tokenize.errors import DacTokenizeError, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SOME_INPUTS_FAILED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None for the process's own.

    Returns:
        The exit status.
    """
    parser = build_parser()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options = parse_options(parser, sys.argv[1:] if arguments is None else arguments)
        return int(options.run(options))
    except UsageError as error:
        print(f"dac-tokenize: {error}", file=sys.stderr)
        print("Try 'dac-tokenize --help'.", file=sys.stderr)
        return EXIT_USAGE
    except DacTokenizeError as error:
        print(f"dac-tokenize: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_FAILED
    except _Stopped as stopped:
        print(f"dac-tokenize: stopped by {stopped}", file=sys.stderr)
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        print("dac-tokenize: stopped by SIGINT", file=sys.stderr)
        return 128 + signal.SIGINT


class _Stopped(BaseException):
    """SIGTERM came."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    raise _Stopped(signal_number)
