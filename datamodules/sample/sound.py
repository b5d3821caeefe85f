"""What a scene sounds like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.sample.world import FPS, SECONDS, TIMBRES, Actor, Scene, generator

SAMPLE_RATE = 16000
EVENT_SECONDS = 0.5
PITCH_RANGE = 2.0  # semitones, up for the smallest actor and down for the biggest
ATTACK = 0.002  # seconds
HUM_HZ = 80  # the hum of room 0
HUM_OCTAVES = 0.6  # from a room to the next: 80 Hz to 1.5 kHz


@dataclass(frozen=True)
class Timbre:
    """How one impact sounds: partials over a pitch that may glide, wobble, pulse and be noisy."""

    hz: float
    """Pitch at the start."""
    decay: float
    """Seconds until it has fallen to 1/e."""
    partials: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    """(frequency as a multiple of the pitch, amplitude)."""
    glide: float = 0.0
    """Octaves a second."""
    wobble: tuple[float, float] = (0.0, 0.0)
    """Vibrato: (Hz, octaves)."""
    pulse: float = 0.0
    """Hz at which the loudness pulses; 0 = it does not."""
    noise: float = 0.0
    """Hz, half the width of the noise band around the pitch; 0 = a tone."""


def _harmonics(*numbers: int) -> tuple[tuple[float, float], ...]:
    return tuple((float(n), 1 / n**0.5) for n in numbers)


# The frequencies are spread so that no two timbres share their strongest partials within the range of pitch.
_TIMBRES = {
    "thud": Timbre(100, 0.05, noise=40),
    "chime": Timbre(2100, 0.25, partials=((1, 1), (2.76, 0.7))),
    "horn": Timbre(220, 0.40, partials=_harmonics(1, 2, 3, 4, 5, 6)),
    "whistle": Timbre(1350, 0.40),
    "hiss": Timbre(5500, 0.20, noise=1200),
    "rising chirp": Timbre(400, 0.40, glide=6),
    "falling chirp": Timbre(4600, 0.40, glide=-5),
    "buzzer": Timbre(145, 0.40, partials=_harmonics(1, 3, 5, 7, 9, 11, 13, 15, 17, 19), pulse=25),
    "warble": Timbre(850, 0.40, wobble=(9, 0.35)),
    "rattle": Timbre(2700, 0.40, noise=500, pulse=18),
    "drum": Timbre(330, 0.20, glide=-4),
    "bell": Timbre(560, 0.35, partials=((1, 1), (2.4, 0.8), (4.07, 0.6), (6.7, 0.4))),
    "beep": Timbre(3500, 0.40, pulse=10),
    "string": Timbre(300, 0.20, partials=_harmonics(1, 3, 5, 7)),
    "whoosh": Timbre(1100, 0.40, noise=450),
    "cricket": Timbre(6600, 0.40, pulse=32),
}


def render(scene: Scene) -> NDArray[np.float32]:
    """[T] mono sound at `SAMPLE_RATE` in -1..1, `SECONDS` long."""
    rng = generator(*scene.key, "sound")
    sound = background(scene.room, SECONDS, rng)
    for actor in scene.actors:
        impact_sound = event(actor, rng)
        for impact in actor.impacts:
            mix(sound, impact_sound, impact * SAMPLE_RATE // FPS)
    return np.clip(sound, -1, 1).astype(np.float32)


def mix(sound: NDArray[np.float64], part: NDArray[np.float64], start: int) -> None:
    """Adds `part` [P] to `sound` [T] from sample `start` on, as far as `sound` goes."""
    sound[start : start + len(part)] += part[: len(sound) - start]


def background(room: int, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """[T] quiet noise about 40 dB below the impacts, and the room's hum about 30 dB below."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise_level, hum_level = 10 ** rng.uniform((-3.2, -2.4), (-2.5, -2.0))
    hum_hz = HUM_HZ * 2 ** (HUM_OCTAVES * room + rng.uniform(-0.1, 0.1))
    phase = rng.uniform(0, 2 * np.pi)
    return noise_level * rng.standard_normal(len(time)) + hum_level * np.sin(2 * np.pi * hum_hz * time + phase)


def event(actor: Actor, rng: np.random.Generator) -> NDArray[np.float64]:
    """[T] the sound of one impact, `EVENT_SECONDS` long."""
    timbre = _TIMBRES[TIMBRES[actor.timbre]]
    time = np.arange(int(EVENT_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    semitones = PITCH_RANGE * (1 - 2 * actor.size)
    wobble_hz, wobble_octaves = timbre.wobble
    octaves = semitones / 12 + timbre.glide * time + wobble_octaves * np.sin(2 * np.pi * wobble_hz * time)
    phase = 2 * np.pi * np.cumsum(timbre.hz * 2**octaves) / SAMPLE_RATE
    wave = sum(amplitude * np.sin(multiple * phase) for multiple, amplitude in timbre.partials)
    if timbre.noise:
        wave = wave * _slow_noise(rng, time, timbre.noise)
    if timbre.pulse:
        wave = wave * (0.5 + 0.5 * np.cos(2 * np.pi * timbre.pulse * time))
    decay = timbre.decay * (0.7 + 0.6 * actor.ring)
    fade_out = np.minimum(1, (EVENT_SECONDS - time) / 0.05)
    wave = wave * np.minimum(1, time / ATTACK) * np.exp(-time / decay) * fade_out
    loudness = 0.15 + 0.3 * actor.size
    return loudness * wave / np.abs(wave).max()


def _slow_noise(rng: np.random.Generator, time: NDArray[np.float64], hz: float) -> NDArray[np.float64]:
    """Noise with frequencies up to about `hz`; times a tone, it is a band of noise around the tone."""
    points = rng.standard_normal(int(EVENT_SECONDS * 2 * hz) + 2)
    return np.interp(time * 2 * hz, np.arange(len(points)), points)
