"""Good media files of five containers, and ten ways to break them."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from tests.media_files import noise, numbered_frame, write_media

CODECS = {
    "mp4": [("libx264", "aac")],
    "mkv": [("libx264", "libopus"), ("mpeg4", "aac")],
    "webm": [("libvpx", "vorbis"), ("libvpx-vp9", "libopus")],
    "avi": [("mpeg4", "libmp3lame")],
    "ts": [("libx264", "aac")],
}
"""Container -> the pairs of codecs that its good files have in turn."""
OPTIONS = {
    "libx264": {"profile": "main", "preset": "veryfast"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "vorbis": {"strict": "experimental"},
}
CONTAINERS = list(CODECS)


def good_file(folder: Path, container: str, index: int) -> Path:
    """Writes good file number `index` of a container: 1-2 s of noise and of numbered frames; no two are alike."""
    random = np.random.default_rng([CONTAINERS.index(container), index])
    video_codec, audio_codec = CODECS[container][index % len(CODECS[container])]
    seconds, fps = random.uniform(1, 2), int(random.choice([10, 12, 15, 25]))
    rate = int(random.choice([16000, 48000] if audio_codec == "libopus" else [16000, 22050, 44100, 48000]))
    channels = 2 if audio_codec == "vorbis" else int(random.integers(1, 3))
    fast = {"movflags": "faststart"} if container == "mp4" and index % 2 else {}
    return write_media(
        folder / f"{container}-{index:03d}.{container}",
        frames=[numbered_frame((index + frame) % 256) for frame in range(round(seconds * fps))],
        fps=fps,
        video_codec=video_codec,
        video_options={"g": str(random.integers(3, 13))} | OPTIONS.get(video_codec, {}),
        sound=noise(seconds, rate, channels, seed=index).clip(-0.9, 0.9),
        rate=rate,
        audio_codec=audio_codec,
        audio_options=OPTIONS.get(audio_codec, {}),
        container_options=fast,
    )


# Ten ways to break a file: (good file, where the broken one goes, generator of what is drawn) -> the broken file


def truncate(good: Path, target: Path, random: np.random.Generator) -> Path:
    """Keeps 5-95 % of the bytes."""
    data = good.read_bytes()
    target.write_bytes(data[: int(len(data) * random.uniform(0.05, 0.95))])
    return target


def flip_bytes(good: Path, target: Path, random: np.random.Generator) -> Path:
    """Inverts one byte in 50 to 1000, header included."""
    data = np.frombuffer(good.read_bytes(), np.uint8).copy()
    places = random.integers(0, len(data), max(1, len(data) // int(random.choice([50, 200, 1000]))))
    data[places] ^= random.integers(1, 256, len(places), dtype=np.uint8)
    target.write_bytes(data.tobytes())
    return target


def zero_span(good: Path, target: Path, random: np.random.Generator) -> Path:
    """Zeros 10-50 % of the bytes, anywhere."""
    data = bytearray(good.read_bytes())
    size = int(len(data) * random.uniform(0.1, 0.5))
    place = int(random.integers(0, len(data) - size))
    data[place : place + size] = bytes(size)
    target.write_bytes(data)
    return target


def wrong_extension(good: Path, target: Path, random: np.random.Generator) -> Path:
    """Another container's suffix, or that of no container."""
    suffixes = [".mp4", ".mkv", ".webm", ".avi", ".ts", ".wav", ".mp3", ".jpg", ".txt", ""]
    suffix = random.choice([suffix for suffix in suffixes if suffix != good.suffix])
    return Path(shutil.copy(good, target.with_suffix(str(suffix))))


def empty(good: Path, target: Path, random: np.random.Generator) -> Path:
    target.touch()
    return target


def no_audio(good: Path, target: Path, random: np.random.Generator) -> Path:
    return remux(good, target, keep=lambda stream: stream.type == "video")


def no_video(good: Path, target: Path, random: np.random.Generator) -> Path:
    return remux(good, target, keep=lambda stream: stream.type == "audio")


def zero_frames(good: Path, target: Path, random: np.random.Generator) -> Path:
    """A video track without a packet, beside the sound."""
    return remux(good, target, edit=lambda data, stream: data if stream.type == "audio" else None)


def absurd_duration(good: Path, target: Path, random: np.random.Generator) -> Path:
    """A header that promises years. MPEG-TS has none: there the stamps jump by hours in the middle of the file."""
    data = bytearray(good.read_bytes())
    if good.suffix == ".mp4":
        patch(data, b"mvhd", 20, ">I", 0x7FFFFFF0)
        patch(data, b"tkhd", 24, ">I", 0x7FFFFFF0)
        patch(data, b"mdhd", 20, ">I", 0x7FFFFFF0)
        if random.random() < 0.5:
            patch(data, b"stts", 16, ">I", 0x7FFFFFFF)
    elif good.suffix in (".mkv", ".webm"):
        patch(data, b"\x44\x89\x88", 3, ">d", float(random.choice([1e7, 1e10, 1e15, 1e300, np.inf, np.nan, -1e12])))
    elif good.suffix == ".avi":
        patch(data, b"avih", 24, "<I", 0xFFFFFFF0)
        patch(data, b"strh", 40, "<I", 0xFFFFFFF0)
    else:
        _jump(data, hours=int(random.integers(1, 12)))
    target.write_bytes(data)
    return target


def absurd_frame_size(good: Path, target: Path, random: np.random.Generator) -> Path:
    """Frames of 16,000 pixels a side and more, said by the container, or by the codec where that is the one to say.

    MPEG-TS does not state a size: there H.264's parameter set is rewritten. VP8 says it in each keyframe.
    """
    if good.suffix == ".ts":
        return remux(good, target, edit=_huge_h264)
    data = bytearray(good.read_bytes())
    if good.suffix == ".mp4":
        patch(data, b"tkhd", 80, ">II", 65535 << 16, 65535 << 16)
        patch(data, b"avc1", 28, ">HH", 65535, 65535)
    elif good.suffix == ".avi":
        patch(data, b"avih", 40, "<II", 60000, 60000)
        patch(data, b"strf", 12, "<II", 60000, 60000)
    elif random.random() < 0.5 and b"\x9d\x01\x2a" in data:
        patch(data, b"\x9d\x01\x2a", 3, "<HH", 16383, 16383)
    else:
        _huge_matroska(data)
    target.write_bytes(data)
    return target


BREAKS: dict[str, Callable[[Path, Path, np.random.Generator], Path]] = {
    "truncate": truncate,
    "flip bytes": flip_bytes,
    "zero a span": zero_span,
    "wrong extension": wrong_extension,
    "empty": empty,
    "no audio": no_audio,
    "no video": no_video,
    "zero frames": zero_frames,
    "absurd duration": absurd_duration,
    "absurd frame size": absurd_frame_size,
}


def damaged_files(folder: Path, count: int) -> Iterator[tuple[str, str, Path, Path]]:
    """Writes `count` good files a container and breaks each in all ways: (container, break, good, broken file)."""
    for index in range(count):
        for number, container in enumerate(CONTAINERS):
            good = good_file(folder, container, index)
            for name, function in BREAKS.items():
                random = np.random.default_rng([index, number, list(BREAKS).index(name)])
                target = good.with_stem(f"{good.stem}-{name.replace(' ', '-')}")
                yield container, name, good, function(good, target, random)


def remux(
    good: Path,
    target: Path,
    keep: Callable[[av.stream.Stream], bool] = lambda stream: True,
    edit: Callable[[bytes, av.stream.Stream], bytes | None] = lambda data, stream: data,
) -> Path:
    """Copies the streams to `keep`, without decoding, and of their packets what `edit` makes of them, if anything."""
    with av.open(str(good)) as source, av.open(str(target), "w") as sink:
        streams = {stream: sink.add_stream_from_template(stream) for stream in source.streams if keep(stream)}
        sink.start_encoding()
        for packet in source.demux(*streams):
            data = edit(bytes(packet), packet.stream) if packet.size else None
            if data is None:
                continue
            copy = av.Packet(data)
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration or 0
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            copy.stream = streams[packet.stream]
            sink.mux(copy)
    return target


def patch(data: bytearray, name: bytes, offset: int, layout: str, *values: float) -> None:
    """Overwrites values that stand `offset` bytes after where each `name` begins."""
    place = data.find(name)
    if place < 0:
        raise ValueError(f"there is no {name!r} to patch")
    while place >= 0:
        if place + offset + struct.calcsize(layout) <= len(data):
            struct.pack_into(layout, data, place + offset, *values)
        place = data.find(name, place + len(name))


def _jump(data: bytearray, hours: int) -> None:
    """Moves the stamps in the second half of an MPEG-TS (ISO/IEC 13818-1, section 2.4.3.7) `hours` ahead."""
    for packet in range(len(data) // 376 * 188, len(data), 188):
        header = 4 + (1 + data[packet + 4] if data[packet + 3] & 0x20 else 0)
        pes = packet + header
        if not data[packet + 1] & 0x40 or data[pes : pes + 3] != b"\0\0\1":
            continue
        for index in range({2: 1, 3: 2}.get(data[pes + 7] >> 6, 0)):
            place = pes + 9 + 5 * index
            a, b, c = data[place], *struct.unpack_from(">HH", data, place + 1)
            stamp = (a >> 1 & 7) << 30 | b >> 1 << 15 | c >> 1
            stamp = (stamp + hours * 3600 * 90000) % 2**33
            data[place] = a & 0xF1 | stamp >> 30 << 1
            struct.pack_into(">HH", data, place + 1, (stamp >> 15 & 0x7FFF) << 1 | 1, (stamp & 0x7FFF) << 1 | 1)


def _huge_matroska(data: bytearray) -> None:
    """PixelWidth and PixelHeight grow to 65,535 each and by a byte, in the room of the track's Language (7 bytes)."""
    language, size = b"\x22\xb5\x9c\x83und", data.index(b"\xb0\x81\x40\xba\x81\x30")
    place = data.rindex(language, 0, size)
    data[size - 1] += len(language)  # of the element Video
    data[size : size + 6] = b"\xb0\x82\xff\xff\xba\x82\xff\xff\xec\x83\0\0\0"  # and 5 bytes of Void
    del data[place : place + len(language)]


def _huge_h264(data: bytes, stream: av.stream.Stream) -> bytes:
    """A packet whose H.264 sequence parameter set (ITU-T H.264, section 7.3.2.1.1), if any, says 16,000 x 16,000."""
    start = data.find(b"\0\0\1\x67")
    if stream.type != "video" or start < 0:
        return data
    start += 4
    end = data.index(b"\0\0\1", start)
    bits = "".join(f"{byte:08b}" for byte in data[start:end].replace(b"\0\0\3", b"\0\0"))

    def skip(place: int) -> int:
        """Past the Exp-Golomb number at `place`."""
        zeros = bits.index("1", place) - place
        return place + 2 * zeros + 1

    place = skip(skip(24))  # after profile, constraints, level: the set's id, log2_max_frame_num_minus4
    order = bits[place]  # pic_order_cnt_type 0 is "1"
    place = skip(place)
    if order == "1":
        place = skip(place)
    place = skip(place) + 1  # max_num_ref_frames, gaps_in_frame_num_value_allowed_flag
    size = f"{16000 // 16:b}"
    size = "0" * (len(size) - 1) + size
    bits = bits[:place] + size + size + bits[skip(skip(place)) :]
    bits += "0" * (-len(bits) % 8)
    new = int(bits, 2).to_bytes(len(bits) // 8, "big").rstrip(b"\0")
    for byte in (0, 1, 2, 3):
        new = new.replace(bytes([0, 0, byte]), bytes([0, 0, 3, byte]))
    return data[:start] + new + data[end:]
