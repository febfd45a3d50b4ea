"""Whether words can still be made out: an offline recogniser on original and decoded prompts.

pocketsphinx is an old recogniser, and the prompts are telephone sound: with free grammar it errs
a lot on the originals themselves. So it picks one of a closed list of words, and the figure is how
many it gets right before and after the codec.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from .data import load_audio
from .evaluation import Codec
from .synthesis import Waveform

logger = logging.getLogger(__name__)

PROGRAM = "pocketsphinx_batch"
MODEL = Path("/usr/share/pocketsphinx/model/en-us")
#: Silence around a word, which the recogniser needs to find its start and end.
PAUSE_SECONDS = 0.4

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_SPELLING = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
]


def spoken_words() -> dict[str, str]:
    """Names the prompts of one known word each: path below the voice's folder to the word."""
    words = {f"digits/{number}.wav": word for number, word in enumerate(_ONES)}
    words |= {f"digits/{10 * (n + 2)}.wav": word for n, word in enumerate(_TENS)}
    words |= {f"digits/day-{n}.wav": word for n, word in enumerate(_DAYS)}
    words |= {f"digits/mon-{n}.wav": word for n, word in enumerate(_MONTHS)}
    for word in ("hundred", "thousand", "million", "billion", "today", "tomorrow", "yesterday"):
        words[f"digits/{word}.wav"] = word
    words |= {f"phonetic/{word[0]}_p.wav": word for word in _SPELLING}
    return words


def recognise_words(codec: Codec, folder: Path, counts: list[int]) -> dict[str, str]:
    """Counts the words that are recognised, in the originals and by number of codebooks.

    Args:
        codec: The codec.
        folder: Folder of the voice.
        counts: Numbers of codebooks.

    Returns:
        "right of all" by what was listened to; empty where pocketsphinx is not installed.
    """
    if shutil.which(PROGRAM) is None or not MODEL.is_dir():
        logger.warning("no %s with its model: words are not scored", PROGRAM)
        return {}
    dictionary = _read_dictionary()
    words = {p: w for p, w in spoken_words().items() if w in dictionary and (folder / p).exists()}
    clips = [load_audio(folder / path, codec.sampling_rate) for path in words]
    spoken = list(words.values())
    figures = {"original": _score(clips, spoken, codec.sampling_rate)}
    encoded = [codec.encode(clip) for clip in clips]
    for count in counts:
        decoded = [
            codec.decode(codes, len(clip), count).numpy()
            for codes, clip in zip(encoded, clips, strict=True)
        ]
        figures[f"{count} codebooks"] = _score(decoded, spoken, codec.sampling_rate)
    return figures


def _read_dictionary() -> set[str]:
    lines = (MODEL / "cmudict-en-us.dict").read_text().splitlines()
    return {line.split()[0] for line in lines if line}


def _score(clips: list[Waveform], spoken: list[str], sampling_rate: int) -> str:
    heard = _listen(clips, sorted(set(spoken)), sampling_rate)
    right = sum(h == s for h, s in zip(heard, spoken, strict=True))
    return f"{right} of {len(spoken)}"


def _listen(clips: list[Waveform], vocabulary: list[str], sampling_rate: int) -> list[str]:
    """Gives the word heard in each clip, or an empty string."""
    pause = np.zeros(int(PAUSE_SECONDS * sampling_rate), np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, clip in enumerate(clips):
            # Faint hiss: the recogniser's features do not bear digital silence.
            padded = np.concatenate([pause, clip, pause])
            padded += np.random.default_rng(index).standard_normal(len(padded)) * 1e-4
            soundfile.write(folder / f"{index}.wav", padded, sampling_rate, subtype="PCM_16")
        (folder / "list").write_text("".join(f"{index}\n" for index in range(len(clips))))
        grammar = "#JSGF V1.0;\ngrammar words;\npublic <word> = " + " | ".join(vocabulary) + ";\n"
        (folder / "words.gram").write_text(grammar)
        command = [PROGRAM, "-adcin", "yes", "-adchdr", "44", "-cepdir", name, "-cepext", ".wav"]
        command += ["-ctl", str(folder / "list"), "-hyp", str(folder / "heard")]
        command += ["-hmm", str(MODEL / "en-us"), "-dict", str(MODEL / "cmudict-en-us.dict")]
        command += ["-jsgf", str(folder / "words.gram")]
        subprocess.run(command, check=True, capture_output=True)
        lines = (folder / "heard").read_text().splitlines()
    heard = {}
    for line in lines:
        # "right words (name score)"
        words, _, rest = line.rpartition("(")
        heard[int(rest.split()[0])] = words.strip()
    return [heard.get(index, "") for index in range(len(clips))]
