# ruff: noqa: RUF001  (sentences in other alphabets)
"""Sound made from nothing: noise, music, and the texts that speech synthesisers read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

SEMITONE = 2 ** (1 / 12)
SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9], [0, 3, 5, 6, 7, 10])

#: One or two plain sentences per espeak-ng language; numbers and made-up words are added to them.
SENTENCES: dict[str, list[str]] = {
    "en-gb": [
        "The morning train was late because of fog on the northern line.",
        "Please leave your shoes by the door and wash your hands.",
    ],
    "en-us": [
        "She measured the flour twice before she poured it into the bowl.",
        "Nobody had expected the river to rise so quickly after one storm.",
    ],
    "de": [
        "Am Abend saßen die Nachbarn noch lange auf der Bank vor dem Haus.",
        "Der Zug nach Süden fährt heute von einem anderen Gleis ab.",
    ],
    "fr": [
        "Le marché ouvre tôt et les premiers clients arrivent avant le jour.",
        "Nous avons oublié les clés sur la table de la cuisine.",
    ],
    "es": [
        "El perro del vecino ladra cada vez que pasa una bicicleta.",
        "Mañana iremos a la montaña si no llueve por la noche.",
    ],
    "it": ["La finestra della scuola guarda su un piccolo giardino pieno di rose."],
    "pt": ["O barco saiu do porto antes que o sol nascesse sobre a baía."],
    "ru": ["Вечером мы долго гуляли по набережной и смотрели на огни города."],
    "pl": ["Wczoraj wieczorem padał śnieg, a rano świeciło słońce."],
    "nl": ["De oude molen aan het water draait nog elke zaterdag."],
    "sv": ["Barnen sprang ner till sjön så snart lektionen var slut."],
    "tr": ["Sabah erkenden kalkıp fırından sıcak ekmek aldık."],
    "fi": ["Talvella järvi jäätyy ja lapset luistelevat rannalla."],
    "hi": ["आज सुबह बाजार में बहुत भीड़ थी और बारिश हो रही थी।"],
    "cmn": ["今天早上我们坐火车去看海。"],
    "el": ["Το καλοκαίρι τα παιδιά παίζουν στην παραλία μέχρι το βράδυ."],
}

#: Onsets, vowels and codas of made-up words: more sounds in more orders than sentences have.
_SYLLABLES = (
    ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "sh", "t", "ch", "v", "w", "z"],
    ["a", "e", "i", "o", "u", "ai", "ee", "oo", "ou"],
    ["", "", "", "n", "s", "l", "t", "m", "r", "k"],
)


def make_text(rng: np.random.Generator, sentences: list[str]) -> str:
    """Makes a text to read: a sentence, some numbers, some made-up words, in a random order."""
    words = [
        "".join("".join(rng.choice(part) for part in _SYLLABLES) for _ in range(rng.integers(1, 4)))
        for _ in range(rng.integers(2, 7))
    ]
    numbers = " ".join(str(n) for n in rng.integers(0, 2000, rng.integers(1, 4)))
    parts = [str(rng.choice(sentences)), " ".join(words) + ".", numbers + "."]
    rng.shuffle(parts)
    return " ".join(parts[: rng.integers(1, 4)])


def make_noise(rng: np.random.Generator, seconds: float, sampling_rate: int) -> Waveform:
    """Makes noise with a random spectral slope and band, under a slow random envelope."""
    num_samples = int(seconds * sampling_rate)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.fft.rfftfreq(num_samples, 1 / sampling_rate)
    spectrum *= (frequencies + 50) ** -rng.uniform(0, 1.5)
    low, high = np.sort(rng.uniform(0, sampling_rate / 2, 2))
    spectrum[(frequencies < low / 4) | (frequencies > max(high, 1000))] *= 0.01
    noise = np.fft.irfft(spectrum, num_samples)
    knots = rng.uniform(0, 1, max(2, int(seconds * rng.uniform(1, 8)))) ** 2
    envelope = np.interp(np.linspace(0, 1, num_samples), np.linspace(0, 1, len(knots)), knots)
    return _normalise(noise * envelope)


def make_music(rng: np.random.Generator, seconds: float, sampling_rate: int) -> Waveform:
    """Makes a piece: chords, bass, melody and drums of random timbres, with a little echo."""
    num_samples = int(seconds * sampling_rate)
    mix = np.zeros(num_samples + 4 * sampling_rate)
    beat = 60 / rng.uniform(70, 160)
    scale = SCALES[rng.integers(len(SCALES))]
    root = 55 * SEMITONE ** rng.integers(0, 24)
    parts = [(_Voice(rng), 1, 0.3), (_Voice(rng), 2, 0.4), (_Voice(rng), 4, 0.35)]
    for index in range(int(seconds / beat)):
        degree = int(rng.choice([0, 3, 4, 5])) if index % 4 == 0 else None
        if degree is not None:
            chord = degree
        start = int(index * beat * sampling_rate)
        if index % 4 == 0:
            for step in (0, 2, 4):
                tone = root * 2 * _pitch(scale, chord + step)
                _add(mix, start, parts[0][2] * parts[0][0].play(tone, beat * 4, sampling_rate))
        _add(mix, start, 0.4 * parts[1][0].play(root * _pitch(scale, chord), beat, sampling_rate))
        for half in range(int(rng.integers(0, 3))):
            tone = root * 4 * _pitch(scale, int(rng.integers(0, 8)))
            at = start + int(half * beat / 2 * sampling_rate)
            _add(mix, at, 0.35 * parts[2][0].play(tone, beat, sampling_rate))
        if rng.random() < 0.8:
            _add(mix, start, rng.uniform(0.1, 0.6) * _drum(rng, index % 2 == 1, sampling_rate))
    delay = int(rng.uniform(0.03, 0.3) * sampling_rate)
    mix[delay:] += rng.uniform(0, 0.4) * mix[:-delay]
    return _normalise(mix[:num_samples])


class _Voice:
    """A random instrument: partials, their decay and detuning, and an attack."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.num_partials = int(rng.integers(2, 16))
        self.slope = rng.uniform(0.5, 2.0)
        self.odd_only = rng.random() < 0.25
        self.decay = rng.uniform(0.5, 8.0)
        self.attack = rng.uniform(0.003, 0.08)
        self.vibrato = rng.uniform(0, 0.006) * (rng.random() < 0.5)
        self.stiffness = rng.uniform(0, 4e-4)

    def play(self, hertz: float, seconds: float, sampling_rate: int) -> NDArray[np.float64]:
        """Plays one tone; partials above half the sampling rate are left out."""
        time = np.arange(int(seconds * 1.2 * sampling_rate)) / sampling_rate
        wobble = self.vibrato * np.sin(2 * np.pi * 5.5 * time) / 5.5
        tone = np.zeros_like(time)
        for partial in range(1, self.num_partials + 1, 2 if self.odd_only else 1):
            frequency = hertz * partial * (1 + self.stiffness * partial**2) ** 0.5
            if frequency > 0.48 * sampling_rate:
                break
            phase = 2 * np.pi * (frequency * (time + wobble) + self.rng.random())
            fade = np.exp(-time * self.decay * (1 + 0.2 * partial))
            tone += partial**-self.slope * np.sin(phase) * fade
        release = np.clip((time[-1] - time) / 0.03, 0, 1)
        return tone * np.clip(time / self.attack, 0, 1) * release


def _drum(rng: np.random.Generator, snare: bool, sampling_rate: int) -> NDArray[np.float64]:
    time = np.arange(int(0.25 * sampling_rate)) / sampling_rate
    if snare:
        return rng.standard_normal(len(time)) * np.exp(-time * rng.uniform(15, 60))
    sweep = 2 * np.pi * (50 * time + 4 * (1 - np.exp(-time * 30)))
    return np.sin(sweep) * np.exp(-time * 14)


def _pitch(scale: list[int], degree: int) -> float:
    octave, step = divmod(degree, len(scale))
    return float(SEMITONE ** (12 * octave + scale[step]))


def _add(mix: NDArray[np.float64], start: int, tone: NDArray[np.float64]) -> None:
    tone = tone[: max(0, len(mix) - start)]
    mix[start : start + len(tone)] += tone


def _normalise(sound: NDArray[np.float64]) -> Waveform:
    return (0.7 * sound / max(1e-6, float(np.abs(sound).max()))).astype(np.float32)
