"""Makes the sounds that ship in `dac_tokenize/sounds/`: speech by espeak-ng, music by numpy.

    apt-get install espeak-ng
    python pipelines/make_shipped_sounds.py [FOLDER]

The music is written below as notes, and is the same, sample for sample, on every run.
"""

import argparse
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Sound = npt.NDArray[np.float64]  # (num_samples,) or (num_samples, 2)

SPEECH = {
    "speech/morning.flac": (
        "en-us+m3",
        165,
        16_000,
        "Good morning. The rain has stopped, and the streets are still shining. "
        "A tram goes by, almost empty, and somewhere above the bakery a window opens.",
    ),
    "speech/numbers.ogg": (
        "en-gb+f2",
        155,
        22_050,
        "Seven, nineteen, forty-four point one, three hundred and twenty. "
        "Quick foxes judge vexing puzzles, while big zebras happily watch them work.",
    ),
    "speech/abend.flac": (
        "de+f4",
        150,
        24_000,
        "Am Abend wird es still im Hafen. Nur das Wasser schlägt noch leise an die Boote.",
    ),
}

NOTE_NAMES = "C C# D D# E F F# G G# A A# B"
NOTES = {name: index for index, name in enumerate(NOTE_NAMES.split())}
BAND_TUNE = (
    "F#5 . A5 . E5 F#5 . D5 . . D5 E5 F#5 . A5 . "
    "B5 . A5 F#5 . E5 D5 . E5 . F#5 . C#5 . E5 . "
    "F#5 . A5 . C#6 B5 . A5 . F#5 . . D5 E5 F#5 A5 "
    "B5 . D6 . B5 A5 F#5 . A5 . E5 . D5 . . ."
)
BELLS_TUNE = "D5 A5 F#5 E5 A5 D6 B5 A5 F#5 G5 E5 A5 D5"


def pitch(note: str) -> float:
    """Frequency of a note (Hz).

    >>> pitch("A4")
    440.0
    """
    return float(440.0 * 2 ** ((NOTES[note[:-1]] - 9 + 12 * (int(note[-1]) - 4)) / 12))


# Instruments: frequency (Hz), seconds, sampling rate -> mono sound


def pluck(frequency: float, seconds: float, rate: int, damping: float = 0.996) -> Sound:
    """A plucked string, after Karplus and Strong, one period at a time."""
    length = int(rate / frequency)
    rng = np.random.default_rng(int(frequency * 1000))
    period = np.convolve(rng.uniform(-1, 1, length + 4), np.ones(5) / 5, "valid")
    period -= period.mean()
    periods = []
    for _ in range(int(seconds * frequency * 1.02) + 2):
        periods.append(period)
        period = damping * 0.5 * (period + np.roll(period, 1))
    string = np.concatenate(periods)
    # a loop of n samples sounds at rate / (n + 1/2): play it a little faster or slower
    steps = np.arange(int(seconds * rate)) * (frequency * (length + 0.5) / rate)
    return fade(np.interp(steps, np.arange(len(string)), string), rate, 0.002, 0.05)


def pad(frequency: float, seconds: float, rate: int) -> Sound:
    """Three soft, slightly detuned voices."""
    time = np.arange(int(seconds * rate)) / rate
    sound = np.zeros(len(time))
    for detune, phase in ((0.997, 0.0), (1.0, 1.0), (1.0035, 2.0)):
        for harmonic in range(1, 9):
            angle = 2 * np.pi * frequency * detune * harmonic * time + phase * harmonic
            sound += np.sin(angle) / harmonic**1.7
    return 0.15 * fade(sound, rate, 0.35, 0.6)


def bass(frequency: float, seconds: float, rate: int) -> Sound:
    """A round bass: few harmonics that die one after another."""
    time = np.arange(int(seconds * rate)) / rate
    sound = np.zeros(len(time))
    for harmonic in range(1, 6):
        decay = np.exp(-time * (1.2 + 1.6 * harmonic))
        sound += decay * np.sin(2 * np.pi * frequency * harmonic * time) / harmonic
    return 0.7 * fade(sound, rate, 0.004, 0.04)


def bell(frequency: float, seconds: float, rate: int) -> Sound:
    """A small bell, by frequency modulation."""
    time = np.arange(int(seconds * rate)) / rate
    modulation = 2.2 * np.exp(-3.0 * time) * np.sin(2 * np.pi * frequency * 3.5 * time)
    sound = np.exp(-2.2 * time) * np.sin(2 * np.pi * frequency * time + modulation)
    return 0.5 * fade(sound, rate, 0.002, 0.1)


def flute(frequency: float, seconds: float, rate: int) -> Sound:
    """A breathy tone with a vibrato that sets in late."""
    time = np.arange(int(seconds * rate)) / rate
    vibrato = 0.004 * np.clip(time - 0.15, 0, 0.3) / 0.3 * np.sin(2 * np.pi * 5.2 * time)
    phase = 2 * np.pi * frequency * np.cumsum(1 + vibrato) / rate
    tone = np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.12 * np.sin(3 * phase)
    breath = np.random.default_rng(int(frequency)).standard_normal(len(time))
    breath = np.convolve(breath, np.hanning(9) / np.hanning(9).sum(), "same")
    return 0.35 * fade(tone + 0.04 * breath, rate, 0.05, 0.08)


def kick(_: float, seconds: float, rate: int) -> Sound:
    """A bass drum: a sine that falls from 150 to 45 Hz."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * (45 * time + 105 / 28 * (1 - np.exp(-28 * time)))
    return 0.9 * fade(np.exp(-9 * time) * np.sin(phase), rate, 0.001, 0.02)


def snare(_: float, seconds: float, rate: int) -> Sound:
    """A snare drum: noise over a short tone."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(5).standard_normal(len(time))
    tone = np.sin(2 * np.pi * 190 * time) * np.exp(-28 * time)
    return 0.4 * fade(0.5 * noise * np.exp(-17 * time) + tone, rate, 0.001, 0.02)


def hat(_: float, seconds: float, rate: int) -> Sound:
    """A closed hi-hat: a tick of bright noise."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.diff(np.random.default_rng(9).standard_normal(len(time) + 2), n=2)
    return 0.09 * fade(noise * np.exp(-55 * time), rate, 0.0005, 0.01)


def fade(sound: Sound, rate: int, rise: float, fall: float) -> Sound:
    """Fades a note in and out, so that it does not click."""
    time = np.arange(len(sound)) / rate
    end = len(sound) / rate
    return sound * np.clip(time / rise, 0, 1) * np.clip((end - time) / fall, 0, 1)


class Score:
    """A stereo tape on which notes are laid."""

    def __init__(self, seconds: float, rate: int, beat: float) -> None:
        self.rate, self.beat = rate, beat
        self.tape = np.zeros((int(seconds * rate), 2))

    def play(
        self,
        instrument: Callable[[float, float, int], Sound],
        note: str,
        start: float,
        beats: float,
        gain: float = 1.0,
        pan: float = 0.0,
    ) -> None:
        """Lays one note at a beat; pan goes from -1 (left) to 1 (right)."""
        frequency = pitch(note) if note else 0.0
        sound = gain * instrument(frequency, beats * self.beat, self.rate)
        first = int(start * self.beat * self.rate)
        sound = sound[: max(0, len(self.tape) - first)]
        angle = (pan + 1) * np.pi / 4
        self.tape[first : first + len(sound), 0] += np.cos(angle) * sound
        self.tape[first : first + len(sound), 1] += np.sin(angle) * sound

    def mastered(self, wet: float = 0.2) -> Sound:
        """Adds a room, fades the end and brings the peak to -3 dB."""
        rng = np.random.default_rng(1)
        time = np.arange(int(1.4 * self.rate)) / self.rate
        size = len(self.tape) + len(time)
        sound = self.tape.copy()
        for side in range(2):
            echo = rng.standard_normal(len(time)) * np.exp(-4.5 * time)
            echo = np.convolve(echo, np.ones(4) / 4, "same") / np.sqrt((echo**2).sum())
            spectrum = np.fft.rfft(self.tape[:, side], size) * np.fft.rfft(echo, size)
            sound[:, side] += wet * np.fft.irfft(spectrum, size)[: len(sound)]
        sound *= np.clip(np.arange(len(sound))[::-1] / (0.8 * self.rate), 0, 1)[:, None]
        return 10 ** (-3 / 20) * sound / np.abs(sound).max()


def guitar_piece(rate: int) -> Sound:
    """Sixteen seconds of finger-picked guitar: A minor, F, C, G, and back home."""
    score = Score(seconds=16.0, rate=rate, beat=0.5)
    bars = [
        ("A2", "E3 A3 C4 E4"),
        ("F2", "C3 A3 C4 F4"),
        ("C3", "G3 C4 E4 G4"),
        ("G2", "D3 B3 D4 G4"),
        ("A2", "E3 A3 C4 E4"),
        ("D3", "A3 D4 F4 A4"),
        ("E3", "B3 D4 E4 G#4"),
        ("A2", "E3 A3 C4 E4"),
    ]
    picking = (0, 1, 2, 3, 2, 1, 2, 1)
    for bar, (root, chord) in enumerate(bars):
        strings = chord.split()
        score.play(pluck, root, 4 * bar, 4, gain=0.9)
        for step, string in enumerate(picking):
            if bar == len(bars) - 1 and step > 3:
                break
            accent = 0.6 if step % 4 == 0 else 0.45
            start = 4 * bar + 0.5 * step + 0.01 * (step % 3)
            score.play(pluck, strings[string], start, 3, accent, pan=0.25 * string - 0.4)
    for start, beats, note in (
        (16, 1.5, "E5"), (17.5, 0.5, "D5"), (18, 2, "C5"), (20, 1, "D5"), (21, 1, "F5"),
        (22, 2, "A5"), (24, 1.5, "G#5"), (25.5, 0.5, "B4"), (26, 2, "E5"), (28, 3, "A4"),
    ):  # fmt: skip
        score.play(flute, note, start, beats, gain=0.55, pan=0.3)
    return score.mastered(wet=0.3)


def band_piece(rate: int) -> Sound:
    """Fourteen seconds of a small band: drums, bass, chords and a plucked tune."""
    score = Score(seconds=14.4, rate=rate, beat=0.45)
    chords = ["D3 F#3 A3 C#4", "B2 D3 F#3 A3", "G2 B2 D3 F#3", "A2 C#3 E3 G3"] * 2
    for bar, chord in enumerate(chords):
        tones = chord.split()
        for index, tone in enumerate(tones):
            score.play(pad, tone, 4 * bar, 4.3, gain=0.45, pan=0.4 * index - 0.6)
        root = tones[0][:-1] + str(int(tones[0][-1]) - 1)
        for start, beats in ((0, 1.4), (1.5, 0.5), (2, 1.0), (3.5, 0.5)):
            score.play(bass, root, 4 * bar + start, beats, gain=0.9)
        for beat in (0, 2, 2.5):
            score.play(kick, "", 4 * bar + beat, 0.9)
        for beat in (1, 3):
            score.play(snare, "", 4 * bar + beat, 0.6, pan=0.1)
        for step in range(8):
            gain = 1.0 if step % 2 else 0.6
            score.play(hat, "", 4 * bar + step / 2, 0.3, gain, pan=-0.35)
    for step, note in enumerate(BAND_TUNE.split()):
        if note != ".":
            score.play(pluck, note, step / 2, 2, gain=0.5, pan=0.25)
    return score.mastered(wet=0.15)


def bells_piece(rate: int) -> Sound:
    """Eight seconds of bells over a held fifth, in mono."""
    score = Score(seconds=8.0, rate=rate, beat=0.5)
    for note, gain in (("D3", 0.5), ("A3", 0.4), ("F#4", 0.2)):
        score.play(pad, note, 0, 15.5, gain)
    for start, note in enumerate(BELLS_TUNE.split()):
        score.play(bell, note, start, 5, gain=0.5)
    return score.mastered(wet=0.3).mean(axis=1)


MUSIC: dict[str, tuple[int, Callable[[int], Sound]]] = {
    "music/guitar.ogg": (44_100, guitar_piece),
    "music/band.ogg": (48_000, band_piece),
    "music/bells.flac": (32_000, bells_piece),
}


def speak(text: str, voice: str, words_per_minute: int, rate: int) -> Sound:
    """Lets espeak-ng say a text, with a breath of silence around it."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-g", "2", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    spoken, spoken_rate = soundfile.read(io.BytesIO(wav))
    sound = soxr.resample(spoken, spoken_rate, rate)
    silence = np.zeros(int(0.15 * rate))
    return np.concatenate([silence, 0.6 * sound / np.abs(sound).max(), silence])


def write(path: Path, sound: Sound, rate: int) -> None:
    """Writes a sound in small blocks (libsndfile crashes on long ones of Vorbis)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    num_channels = 1 if sound.ndim == 1 else sound.shape[1]
    with soundfile.SoundFile(path, "w", rate, num_channels) as file:
        for start in range(0, len(sound), 4096):
            file.write(sound[start : start + 4096])


def main() -> None:
    """Makes all sounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent.parent / "dac_tokenize" / "sounds"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    folder = parser.parse_args().folder
    for name, (voice, words_per_minute, rate, text) in SPEECH.items():
        write(folder / name, speak(text, voice, words_per_minute, rate), rate)
    for name, (rate, piece) in MUSIC.items():
        write(folder / name, piece(rate), rate)
    for path in sorted(folder.glob("*/*.*")):
        info = soundfile.info(path)
        size = f"{path.stat().st_size // 1024} KiB"
        print(f"{path}: {info.duration:.1f} s, {info.samplerate} Hz x {info.channels}, {size}")


if __name__ == "__main__":
    main()
