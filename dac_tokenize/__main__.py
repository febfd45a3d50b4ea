"""`python -m dac_tokenize`: the command line."""

import sys

from dac_tokenize.cli import main

sys.exit(main())
