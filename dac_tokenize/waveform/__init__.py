"""A reference's sound as float32 blocks at the codec's sampling rate."""

from dac_tokenize.waveform.opening import WaveformOpener, open_waveform, read_waveform
from dac_tokenize.waveform.options import ChannelPolicy, Waveform, WaveformOptions
from dac_tokenize.waveform.stores import as_uri, is_url
from dac_tokenize.waveform.values import audio_to_waveform

__all__ = [
    "ChannelPolicy",
    "Waveform",
    "WaveformOpener",
    "WaveformOptions",
    "as_uri",
    "audio_to_waveform",
    "is_url",
    "open_waveform",
    "read_waveform",
]
