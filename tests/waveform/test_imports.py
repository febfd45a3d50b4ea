"""Reading sound needs none of the heavy libraries until they are used."""

import subprocess
import sys

HEAVY = ["torch", "transformers", "apache_beam", "datasets", "av", "pyloudnorm", "scipy", "aiohttp"]


def test_heavy_libraries_are_not_imported():
    script = (
        "import sys, dac_tokenize.waveform, dac_tokenize.sources, dac_tokenize.prefetch; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
