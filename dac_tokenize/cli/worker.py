"""A worker process of the local runner: Beam's own, with only our words on the terminal."""

import signal
import sys

from dac_tokenize.cli.quiet import quiet_libraries

if __name__ == "__main__":
    # Ctrl-C is for the process that started this one, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with quiet_libraries():
        from apache_beam.runners.worker.sdk_worker_main import main

        main(sys.argv)  # type: ignore[no-untyped-call]
