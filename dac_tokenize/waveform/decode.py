"""Sources to readers of sound: libsndfile, or else FFmpeg."""

from dac_tokenize.errors import AudioError
from dac_tokenize.waveform.fetch import SourceFile
from dac_tokenize.waveform.reader import SoundReader, check_header
from dac_tokenize.waveform.sndfile import SndfileReader, UnrecognisedError
from dac_tokenize.waveform.stores import source_errors


def open_sound(source: SourceFile) -> SoundReader:
    """Opens a sound with libsndfile, or else with FFmpeg where PyAV is installed.

    Args:
        source: the sound; closed with the reader, or when this fails.

    Raises:
        AudioError: neither reads it, or its header cannot be right.
        SourceError: the bytes could not be read.
    """
    try:
        with source_errors(source.name):
            if source.size_bytes == 0:
                raise AudioError("the file is empty (0 bytes); expected sound")
            reader = _open(source)
            check_header(reader.sampling_rate, reader.num_channels)
            return reader
    except BaseException:
        source.close()
        raise


def _open(source: SourceFile) -> SoundReader:
    try:
        return SndfileReader(source)
    except UnrecognisedError as error:
        from dac_tokenize.waveform.ffmpeg import FfmpegReader, find_demuxer

        found = find_demuxer(source.file)
        if found is None:
            raise AudioError(str(error)) from error
        demuxer, name = found
        try:
            return FfmpegReader(source, demuxer)
        except ImportError:
            raise AudioError(
                f"this looks like {name}, which libsndfile does not read; to let FFmpeg read it: "
                "pip install 'dac-tokenize[av]'"
            ) from error
