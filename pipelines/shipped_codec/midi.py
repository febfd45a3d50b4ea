"""Random pieces for a General MIDI soundfont: recorded instruments, composed by chance."""

from __future__ import annotations

import struct

import numpy as np

from .synthesis import SCALES

TICKS_PER_BEAT = 96
DRUM_CHANNEL = 9
#: Kick, snare, hats, toms, crash, ride, tambourine in General MIDI.
DRUMS = [36, 38, 42, 46, 45, 48, 49, 51, 54]

#: (tick, MIDI message)
Event = tuple[int, bytes]


def make_piece(rng: np.random.Generator, seconds: float) -> bytes:
    """Composes a piece and writes it as a MIDI file (format 0).

    Args:
        rng: Decides everything.
        seconds: Length; the last notes may ring a little longer.
    """
    beats_per_minute = rng.uniform(60, 170)
    num_beats = int(seconds * beats_per_minute / 60)
    tempo = int(60e6 / beats_per_minute).to_bytes(3, "big")
    events: list[Event] = [(0, b"\xff\x51\x03" + tempo)]
    scale = SCALES[rng.integers(len(SCALES))]
    root = int(rng.integers(36, 48))
    for channel in range(int(rng.integers(1, 6))):
        events.append((0, bytes([0xC0 | channel, int(rng.integers(0, 112))])))
        events += _part(rng, channel, scale, root + 12 * int(rng.integers(0, 4)), num_beats)
    if rng.random() < 0.6:
        events += _drums(rng, num_beats)
    return _file(events)


def _part(
    rng: np.random.Generator, channel: int, scale: list[int], root: int, num_beats: int
) -> list[Event]:
    """One instrument: chords or a line, in notes of one typical length."""
    events: list[Event] = []
    length = int(rng.choice([24, 48, 96, 192, 384]))
    num_voices = int(rng.choice([1, 1, 2, 3]))
    rest, degree = rng.uniform(0, 0.5), int(rng.integers(0, 7))
    for start in range(0, num_beats * TICKS_PER_BEAT, length):
        degree = int(np.clip(degree + rng.integers(-3, 4), 0, 13))
        if rng.random() < rest:
            continue
        velocity = int(rng.integers(50, 120))
        for voice in range(num_voices):
            octave, step = divmod(degree + 2 * voice, len(scale))
            note = min(120, root + 12 * octave + scale[step])
            events.append((start, bytes([0x90 | channel, note, velocity])))
            events.append((start + length - 2, bytes([0x80 | channel, note, 0])))
    return events


def _drums(rng: np.random.Generator, num_beats: int) -> list[Event]:
    """A pattern of 16 half beats, played over and over."""
    pattern = [(step, int(drum)) for step in range(16) for drum in DRUMS if rng.random() < 0.12]
    events: list[Event] = []
    for bar in range(num_beats // 8 + 1):
        for step, drum in pattern:
            tick = (bar * 16 + step) * TICKS_PER_BEAT // 2
            events.append((tick, bytes([0x90 | DRUM_CHANNEL, drum, int(rng.integers(60, 120))])))
            events.append((tick + 20, bytes([0x80 | DRUM_CHANNEL, drum, 0])))
    return events


def _file(events: list[Event]) -> bytes:
    """Writes events as a one-track file; stable order makes equal pieces equal bytes."""
    track, now = bytearray(), 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track += _variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_BEAT)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable_length(value: int) -> bytes:
    """Seven bits a byte, the high bit set on all but the last."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | (value & 0x7F))
    return bytes(reversed(out))
