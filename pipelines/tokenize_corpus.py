r"""Encode audio into a corpus of DAC codes, on any Beam runner.

    python pipelines/tokenize_corpus.py --config configs/local.yaml
    python pipelines/tokenize_corpus.py gs://bucket/audio --output gs://bucket/corpus \
        --runner=DataflowRunner --project=... --region=... --temp_location=...

All of it is in the package, so that remote workers can import it: this is `dac-tokenize encode`.
"""

import sys

from dac_tokenize.cli import main

if __name__ == "__main__":
    sys.exit(main(["encode", *sys.argv[1:]]))
