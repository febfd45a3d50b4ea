"""Real recordings, where Debian's packages of them are installed: all read, and as long as told."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from dac_tokenize.errors import ClipError
from dac_tokenize.prefetch import prefetch_waveforms
from dac_tokenize.sources import list_references
from dac_tokenize.waveform import WaveformOpener

COLLECTIONS = {
    "asterisk-core-sounds-en-wav": "/usr/share/asterisk/sounds",
    "asterisk-moh-opsound-wav": "/usr/share/asterisk/moh",
    "supertux-data": "/usr/share/games/supertux2/music",
}


@pytest.mark.parametrize("package", COLLECTIONS)
def test_real_recordings(package):
    folder = Path(COLLECTIONS[package])
    if not folder.is_dir():
        pytest.skip(f"needs Debian's package {package}")
    references = list(list_references([folder]))
    references = references[:: max(1, sum(r.size_bytes or 0 for r in references) // 20_000_000)]
    total, expected, opener = 0.0, 0.0, WaveformOpener(16_000)
    for reference, waveform in prefetch_waveforms(references, opener, num_threads=2):
        if isinstance(waveform, ClipError):
            raise waveform
        for block in waveform.blocks:
            assert np.isfinite(block).all()
            total += block.shape[1] / 16_000
        expected += soundfile.info(reference.uri).duration
    assert total == pytest.approx(expected, abs=1e-4 * len(references))
    assert len(references) > 3
