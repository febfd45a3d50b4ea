r"""Audit a corpus of DAC codes: every row checked, a sample held to its sources, a page to hear it.

    python pipelines/audit_corpus.py --config configs/audit.yaml
    python pipelines/audit_corpus.py gs://bucket/corpus --output gs://bucket/report \
        --runner=DataflowRunner --project=... --region=... --temp_location=...

All of it is in the package, so that remote workers can import it: this is `dac-tokenize audit`.
"""

import sys

from dac_tokenize.cli import main

if __name__ == "__main__":
    sys.exit(main(["audit", *sys.argv[1:]]))
