"""`bench speed data`: clips a second of each step and of the whole loader, beside what a user would otherwise write.

Everything is timed in one run, on one thread, in turns: each round times every step once, and what is reported is the
median of the rounds, so that a machine that is busy for a while is busy for all.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
import torchaudio
from rich.table import Table

from bench.progress import track
from bench.tables.show import console
from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest
from datamodules.media.decode import Media
from datamodules.packing.pack import pack
from datamodules.packing.shards import PackedFormat, open_pack
from datamodules.source import LABELS
from datamodules.streams.audio import LogMel
from datamodules.streams.known import kind, kinds
from datamodules.types import AudioInputs, AugmentConfig, DataConfig, Inputs, VideoInputs

SECONDS, FPS, WIDTH, HEIGHT, RATE = 10, 25, 340, 256, 44100
FRAMES, SIZE = 8, 224
AUDIO = AudioInputs(frames=998)
VIDEO = VideoInputs(frames=FRAMES, fps=FRAMES / SECONDS, size=SIZE, train_size=SIZE)
INPUTS = Inputs(AUDIO, VIDEO)
"""10 s of sound as 998 log-mel frames (10 s hold no more whole ones), 8 frames spread over them."""
LOADER_BATCH, LOADER_PASSES = 4, 8


@dataclass
class Step:
    """Something that is timed."""

    name: str
    run: Callable[[Path], object]
    """Does it for one clip."""
    group: str


def make_clips(folder: Path, count: int) -> list[Path]:
    """H.264/AAC clips of 10 s, 340 x 256, 25 fps, stereo 44.1 kHz: textures that move, and noise, so that they do not
    compress better than real ones (about 540 kbit/s)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip{i:03}.mp4" for i in range(count)]
    missing = [path for path in paths if not path.exists()]
    for path in track(missing, "making clips", len(missing)):
        _make_clip(path, seed=int(path.stem[-3:]))
    return paths


def _make_clip(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = rng.random((24, 32, 3)).repeat(32, 0).repeat(32, 1)
    kernel = np.hanning(65) / np.hanning(65).sum()
    for axis in (0, 1):
        scene = np.apply_along_axis(np.convolve, axis, scene, kernel, "same")
    scene = 255 * (scene - scene.min()) / np.ptp(scene)
    grain = rng.normal(0, 6, (HEIGHT, WIDTH, 1))
    temporary = path.with_suffix(".tmp")
    with av.open(str(temporary), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "fast", "threads": "1"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="stereo")
        audio.bit_rate = 96000
        for i in range(SECONDS * FPS):
            y, x = int(200 + 150 * np.sin(i / 60 + seed)), int(300 + 250 * np.cos(i / 80 + seed))
            picture = scene[y : y + HEIGHT, x : x + WIDTH] + np.roll(grain, i * 7, axis=1)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(video.encode(frame))
        time_T = np.arange(SECONDS * RATE) / RATE
        tone = 0.2 * np.sin(2 * np.pi * (300 + 40 * seed) * time_T * (1 + 0.1 * np.sin(time_T)))
        sound = (tone + 0.05 * rng.standard_normal((2, len(time_T)))).astype(np.float32)
        samples = av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
        samples.sample_rate, samples.pts = RATE, 0
        container.mux(audio.encode(samples))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    temporary.rename(path)


def manifest_of(paths: list[Path]) -> Manifest:
    """A manifest of the clips that are read."""
    n = len(paths)
    table = pd.DataFrame(
        {
            "clip_id": [path.stem for path in paths],
            "video_id": [path.stem for path in paths],
            "start": 0.0,
            "end": float(SECONDS),
            "labels": pd.Series([[0]] * n, dtype=LABELS),
            "audio_path": [str(path) for path in paths],
            "video_path": [str(path) for path in paths],
            "audio_offset": 0.0,
            "video_offset": 0.0,
            "seconds": float(SECONDS),
            "sound_seconds": float(SECONDS),
        }
    ).astype({name: "str" for name in ("clip_id", "video_id", "audio_path", "video_path")})
    return Manifest(table, ["made up"], False, n)


TIMES = [i * SECONDS / FRAMES for i in range(FRAMES)]


def ours() -> list[Step]:
    """The suite's own steps, on media files."""
    log_mel = LogMel(AUDIO)
    sounds: dict[Path, tuple[torch.Tensor, torch.Tensor]] = {}

    def decode_sound(path: Path) -> np.ndarray:
        with Media(path) as media:
            return media.audio(0, SECONDS, AUDIO.sample_rate)

    def decode_frames(path: Path) -> np.ndarray:
        with Media(path) as media:
            return media.frames(TIMES, SIZE)

    def features(path: Path) -> torch.Tensor:
        if path not in sounds:
            sound = torch.from_numpy(decode_sound(path))
            sounds[path] = sound[None], torch.tensor([len(sound)])
        return log_mel(*sounds[path])

    def everything(path: Path) -> object:
        with Media(path) as media:
            sound = torch.from_numpy(media.audio(0, SECONDS, AUDIO.sample_rate))
            frames = media.frames(TIMES, SIZE)
        return log_mel(sound[None], torch.tensor([len(sound)])), frames

    return [
        Step("sound: decode, resample to 16 kHz", decode_sound, "ours, MP4"),
        Step("8 frames: decode, resize to 224", decode_frames, "ours, MP4"),
        Step("log-mel of 10 s", features, "ours, MP4"),
        Step("sound + frames + log-mel", everything, "ours, MP4"),
    ]


def stream_steps(manifest: Manifest) -> list[Step]:
    """Reading one clip as each kind of stream that reads media, and what is done to it on the device; as it is by
    default."""
    row = {clip: i for i, clip in enumerate(manifest.table["clip_id"])}

    def step(name: str) -> Step:
        inputs = Inputs(None, None, streams={"timed": {"kind": name}})
        clips, features = ClipDataset(manifest, DataConfig(inputs=inputs), seed=0), Features(inputs, AugmentConfig())

        def read(path: Path) -> object:
            raw = collate([clips[ClipRef(row[path.stem], EVALUATION)]])
            assert raw is not None  # the clips are whole
            return features(raw, train=False)

        return Step(f"{name}: read, collate, transform", read, "streams, MP4")

    return [step(name) for name in sorted(kinds()) if kind(name).media is not None]


def _fbank(sound_T: torch.Tensor, rate: int) -> torch.Tensor:
    """What AST-like repositories do for each clip."""
    sound = torchaudio.functional.resample(sound_T, rate, AUDIO.sample_rate)[None]
    return torchaudio.compliance.kaldi.fbank(
        sound - sound.mean(),
        htk_compat=True,
        sample_frequency=AUDIO.sample_rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=AUDIO.mel_bins,
        dither=0.0,
        frame_shift=10,
    )


def decord_steps() -> list[Step]:
    """decord's frames and sound, torchaudio's resampling and fbank."""
    import decord

    decord.bridge.set_bridge("torch")
    at = [round(t * FPS) for t in TIMES]
    sounds: dict[Path, torch.Tensor] = {}

    def decode_sound(path: Path) -> torch.Tensor:
        return decord.AudioReader(str(path), ctx=decord.cpu(0), mono=True)[:][0]

    def decode_frames(path: Path) -> torch.Tensor:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), width=SIZE, height=SIZE, num_threads=1)
        return reader.get_batch(at)

    def features(path: Path) -> torch.Tensor:
        if path not in sounds:
            sounds[path] = decode_sound(path)
        return _fbank(sounds[path], RATE)

    def everything(path: Path) -> object:
        return _fbank(decode_sound(path), RATE), decode_frames(path)

    def without_decoding_sound(path: Path) -> object:
        return features(path), decode_frames(path)

    return [
        Step("sound: decode", decode_sound, "decord + torchaudio"),
        Step("8 frames: decode, resize to 224", decode_frames, "decord + torchaudio"),
        Step("resample + fbank of 10 s", features, "decord + torchaudio"),
        Step("frames + resample + fbank, sound decoded before", without_decoding_sound, "decord + torchaudio"),
        Step("sound + frames + resample + fbank", everything, "decord + torchaudio"),
    ]


def torchcodec_steps() -> list[Step]:
    """torchcodec's frames and sound (it resamples itself), torchaudio's fbank."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    def decode_frames(path: Path) -> torch.Tensor:
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
        frames = decoder.get_frames_played_at(TIMES).data
        return torch.nn.functional.interpolate(frames.float(), (SIZE, SIZE), mode="bicubic", antialias=True)

    def everything(path: Path) -> object:
        decoder = AudioDecoder(str(path), sample_rate=AUDIO.sample_rate, num_channels=1)
        sound = decoder.get_samples_played_in_range(0, SECONDS).data[0]
        return _fbank(sound, AUDIO.sample_rate), decode_frames(path)

    return [
        Step("8 frames: decode, resize to 224", decode_frames, "torchcodec + torchaudio"),
        Step("sound + frames + fbank", everything, "torchcodec + torchaudio"),
    ]


def others() -> tuple[list[Step], list[str]]:
    """The steps of libraries that are installed, and what is not."""
    steps, absent = [], []
    for name, make in (("decord", decord_steps), ("torchcodec", torchcodec_steps)):
        try:
            assert importlib.util.find_spec(name) is not None, "not installed"
            steps += make()
        except Exception as error:  # a library that cannot load FFmpeg raises whatever it likes
            absent.append(f"{name}: {str(error).splitlines()[0]}")
    return steps, absent


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, PyTorch computes on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_steps(steps: list[Step], paths: list[Path], rounds: int) -> dict[int, list[float]]:
    """Step -> seconds a clip in each round."""
    for step in steps:
        step.run(paths[0])
    seconds: dict[int, list[float]] = {i: [] for i in range(len(steps))}
    for _ in track(range(rounds), "timing steps", rounds):
        for i, step in enumerate(steps):
            began = time.perf_counter()
            for path in paths:
                step.run(path)
            seconds[i].append((time.perf_counter() - began) / len(paths))
    return seconds


def loader_seconds(manifest: Manifest, workers: int) -> float:
    """Seconds a clip of a loader at work, collation included.

    Timed from the first batch to the last of several passes; the batches that the processes had read by then, one
    each, do not count.
    """
    indices = [i for _ in range(LOADER_PASSES) for i in range(len(manifest))]
    batches = [
        [ClipRef(i, EVALUATION) for i in indices[at : at + LOADER_BATCH]] for at in range(0, len(indices), LOADER_BATCH)
    ]
    clips = ClipDataset(manifest, DataConfig(inputs=INPUTS), seed=0)
    loader = Loader(clips, batch_sampler=batches, num_workers=workers, collate_fn=collate)
    arrivals = [time.perf_counter() for _ in loader]
    read_since = len(arrivals) - max(1, workers)
    return (arrivals[-1] - arrivals[0]) / (read_since * LOADER_BATCH)


def data(folder: Path, clips: int, rounds: int) -> None:
    """Times everything and prints it."""
    paths = make_clips(folder / "clips", clips)
    manifest = manifest_of(paths)
    url = str(folder / f"packed-{clips}")
    if not (Path(url) / "speed" / "pack.json").exists():
        format = PackedFormat(AUDIO.sample_rate, VIDEO.fps, SIZE)
        pack(manifest, "speed", "speed", url, format, track=track)
    packed = open_pack(url, ["speed"], INPUTS, "speed")
    with one_thread():
        steps, absent = others()
        steps = [*ours(), *packed_steps(packed), *stream_steps(manifest), *steps]
        seconds = time_steps(steps, paths, rounds)
        print_steps(steps, seconds, clips, rounds)
        for text in absent:
            console.print(f"not timed: {text}")
        print_ratios(steps, seconds)
        print_loaders(manifest, packed, rounds)


def packed_steps(packed: Manifest) -> list[Step]:
    """The steps of reading from a pack."""
    clips = ClipDataset(packed, DataConfig(inputs=INPUTS), seed=0)
    log_mel = LogMel(AUDIO)
    row = {clip: i for i, clip in enumerate(packed.table["clip_id"])}

    def read(path: Path) -> dict:
        return clips[ClipRef(row[path.stem], EVALUATION)][0]

    def everything(path: Path) -> object:
        clip = read(path)
        return log_mel(clip["audio"][None], torch.tensor([len(clip["audio"])])), clip["video"]

    def collated(path: Path) -> object:
        return collate([[held[path]]] * 8) if path in held else held.setdefault(path, read(path))

    held: dict[Path, dict] = {}
    return [
        Step("sound + 8 frames", read, "ours, packed"),
        Step("sound + frames + log-mel", everything, "ours, packed"),
        Step("collate, a batch of 8", collated, "ours, packed"),
    ]


def print_steps(steps: list[Step], seconds: dict[int, list[float]], clips: int, rounds: int) -> None:
    """Prints the median speed of each step."""
    table = Table("", "step", "clips/s", "ms a clip", "fastest and slowest round")
    table.title = (
        f"one thread, {clips} clips of {SECONDS} s, {WIDTH} x {HEIGHT}, {FPS} fps, H.264/AAC; median of {rounds} rounds"
    )
    table.title_justify = "left"
    group = ""
    for i, step in enumerate(steps):
        middle = statistics.median(seconds[i])
        low, high = min(seconds[i]), max(seconds[i])
        name, group = (step.group if step.group != group else ""), step.group
        spread = f"{low * 1e3:.2f} to {high * 1e3:.2f}"
        table.add_row(name, step.name, f"{1 / middle:.1f}", f"{middle * 1e3:.2f}", spread)
    console.print(table)


def print_ratios(steps: list[Step], seconds: dict[int, list[float]]) -> None:
    """How many times as many clips a second as others, from MP4: paired round by round."""
    whole = {(s.group, s.name): seconds[i] for i, s in enumerate(steps)}
    mine = whole["ours, MP4", "sound + frames + log-mel"]
    for (group, name), theirs in whole.items():
        if group != "ours, MP4" and "+" in name and "fbank" in name and "frames" in name:
            console.print(f"MP4, ours against {group} ({name}): {_ratio(theirs, mine)}")
    packed = whole["ours, packed", "sound + frames + log-mel"]
    console.print(f"packed against MP4 (sound + frames + log-mel): {_ratio(mine, packed)}")


def _ratio(slow: list[float], fast: list[float]) -> str:
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} times as many clips/s ({min(ratios):.2f} to {max(ratios):.2f})"


def print_loaders(manifest: Manifest, packed: Manifest, rounds: int) -> None:
    """The whole loader with 0, 1 and 2 processes, in turns."""
    sources = {"MP4": manifest, "packed": packed}
    seconds: dict[tuple[str, int], list[float]] = {(n, w): [] for n in sources for w in (0, 1, 2)}
    turns = list(seconds) * max(1, rounds // 2)
    for name, workers in track(turns, "timing loaders", len(turns)):
        seconds[name, workers].append(loader_seconds(sources[name], workers))
    table = Table("loader", "processes", "clips/s", "times one process", "from … to")
    table.title, table.title_justify = "whole loader: read, decode, collate", "left"
    for (name, workers), times in seconds.items():
        label = {0: "none (in the training process)"}.get(workers, str(workers))
        ratios = [one / time_ for one, time_ in zip(seconds[name, 1], times, strict=True)] if workers == 2 else []
        spread = (f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}") if ratios else ("", "")
        table.add_row(name, label, f"{1 / statistics.median(times):.1f}", *spread)
    console.print(table)
    ratio = _ratio(seconds["MP4", 0], seconds["packed", 0])
    console.print(f"packed against MP4 (whole loader, no processes): {ratio}")
