"""Kinds of stream of pictures: each reads what its own file says, where its settings say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import DataError
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.media.container import MediaError
from datamodules.media.pictures import read_numbers
from datamodules.packing.shards import PackedFormat
from datamodules.streams.known import streams_of
from datamodules.types import AugmentConfig, LoaderConfig, VideoInputs, WindowConfig
from tests.datamodules.made_dataset import Made, batch_of, clips_of, inputs_of, manifest_of
from tests.media_files import film, number_of, write_media

FPS, SECONDS = 10, 4.0
AUGMENT = AugmentConfig(crop_scale=0.3, flip=True, color_jitter=0.8, gray=0.2)
PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
TWO_SAME = {"twice": WindowConfig(lies="same", count=2)}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three videos of 4 s, whose pictures say which frame they are."""
    root = tmp_path_factory.mktemp("films")
    for name in ("a", "b", "c"):
        write_media(root / f"{name}.mp4", frames=film(int(SECONDS * FPS)), fps=FPS)
    return Made(root, {"clip_id": ["a", "b", "c"]})


def numbers(pictures: torch.Tensor) -> list[int]:
    """Of [B, 3, H, W] that were not normalised."""
    return [number_of(picture.permute(1, 2, 0).numpy() * 255) for picture in pictures]


def left_out(manifest) -> dict[str, int]:
    return manifest.excluded


# image


def image(**settings) -> dict:
    return {"kind": "image", "size": 32, "train_size": 32, **PLAIN, **settings}


@pytest.mark.parametrize(("at", "frame"), [("start", 0), ("middle", 20), ("drawn", 20)])
def test_an_image_is_the_frame_at_its_place_in_the_clip(films, at, frame):
    batch = batch_of(films, inputs_of(picture=image(at=at)))
    assert batch["picture"].shape == (3, 3, 32, 32) and numbers(batch["picture"]) == [frame] * 3


def test_an_image_lies_in_the_middle_of_a_stretch_that_is_cut_as_that_of_other_streams(films):
    inputs = inputs_of(picture=image(seconds=1.0), frames={**image(), "kind": "frames", "frames": 10, "fps": 10})
    clips = clips_of(manifest_of(films, inputs), inputs, loader=LoaderConfig(train_windows=2))
    seen = {tuple(map(number_of, (c["frames"][5].numpy(), c["picture"].numpy()))) for c in read(clips, epochs=6)}
    assert seen == {(5, 5), (35, 35)}


def read(clips, epochs: int) -> list[dict]:
    return [clips[ClipRef(0, epoch)][0] for epoch in range(epochs)]


def test_a_drawn_image_is_another_in_each_epoch_and_window_and_the_same_again(films):
    inputs = inputs_of(TWO_SAME, picture=image(at="drawn", window="twice"))

    def drawn(epoch: int) -> list[list[int]]:
        return [numbers(clip) for clip in batch_of(films, inputs, epoch)["picture"]]

    first = drawn(0)
    assert first == drawn(0) != drawn(1)
    assert all(one != other for one, other in first) and len({number for pair in first for number in pair}) > 4


def test_an_image_is_cropped_flipped_and_coloured_as_the_frame_of_a_video_is(films):
    video = {"size": 24, "train_size": 32, **PLAIN}
    inputs = inputs_of(picture=image(at="start", seconds=1.0, size=24))
    inputs.video = VideoInputs(frames=1, fps=1.0, **video)
    batch = batch_of(films, inputs, epoch=3, augment=AUGMENT)
    assert torch.equal(batch["picture"], batch["video"][:, :, 0]) and batch["picture"].shape[-1] == 24
    mixed = AugmentConfig(mixup=1.0, crop_scale=0.3)
    batch = batch_of(films, inputs, epoch=3, augment=mixed)
    assert torch.equal(batch["picture"], batch["video"][:, :, 0]) and (batch["label"].amax(1) < 1).any()


@pytest.fixture
def stills(tmp_path: Path) -> Made:
    """Pictures of all formats, one clip without, one whose file is gone, one empty, others damaged."""
    pixels = np.stack(np.broadcast_arrays(np.arange(32) * 8, np.arange(32)[:, None] * 4, 90), -1).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for suffix in ("png", "webp", "jpg", "gif"):
        Image.fromarray(pixels).save(
            tmp_path / "images" / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
    (tmp_path / "images/empty.png").touch()
    (tmp_path / "images/damaged.png").write_bytes((tmp_path / "images/x.png").read_bytes()[:60])
    for suffix in ("jpg", "gif"):
        whole = (tmp_path / f"images/x.{suffix}").read_bytes()
        (tmp_path / f"images/cut.{suffix}").write_bytes(whole[: len(whole) * 9 // 10])
    (tmp_path / "images/text.png").write_text("<html>")
    bad = ["gone.png", "empty.png", "damaged.png", "cut.jpg", "cut.gif", "text.png"]
    names = ["x.png", "x.webp", "x.jpg", "x.gif", None, *bad]
    paths = [name and f"images/{name}" for name in names]
    return Made(tmp_path, {"clip_id": [str(name) for name in names], "image": paths})


def test_an_image_may_be_a_file_of_its_own(stills):
    inputs = inputs_of(picture=image(column="image"))
    batch = batch_of(stills, inputs)
    assert batch["clip_id"] == ["x.png", "x.webp", "x.jpg", "x.gif"]
    for name, picture in zip(batch["clip_id"], batch["picture"], strict=True):
        expected = np.asarray(Image.open(stills.root / "images" / name).convert("RGB")) / 255
        lossy = name.endswith(("jpg", "gif"))
        assert np.abs(picture.permute(1, 2, 0).numpy() - expected).mean() < (0.02 if lossy else 1e-6)


def test_images_that_are_damaged_are_counted_by_what_is_wrong_with_them(stills):
    manifest = manifest_of(stills, inputs_of(picture=image(column="image")))
    assert left_out(manifest) == {
        "no picture": 1,
        "picture: missing": 1,
        "picture: empty": 1,
        "picture: undecodable": 2,
        "picture: truncated": 2,
    }
    assert manifest.examples["picture: truncated"] == ["cut.jpg", "cut.gif"]
    assert (manifest.official, manifest.coverage) == (11, 4 / 11)


def test_an_image_that_was_damaged_since_is_left_out_and_in_training_another_clip_stands_in_its_place(stills):
    inputs = inputs_of(picture=image(column="image"))
    clips = clips_of(manifest_of(stills, inputs), inputs)
    (stills.root / "images/x.jpg").write_bytes((stills.root / "images/cut.jpg").read_bytes())
    (stills.root / "images/x.gif").unlink()
    assert clips[ClipRef(2, EVALUATION)] == clips[ClipRef(3, EVALUATION)] == []
    assert clips[ClipRef(2, 0)][0]["clip_id"] == clips[ClipRef(3, 0)][0]["clip_id"] == "x.png"


def test_files_beside_media_are_looked_at_once_and_again_when_they_change(stills):
    inputs, looked_at = inputs_of(picture=image(column="image")), []

    def track(items, title, total):
        looked_at.append((title, total))
        return items

    def usable() -> int:
        return len(build_manifest(stills, ["all"], inputs, Checks(stills.root / "checks", 1, track)))

    assert usable() == usable() == 4
    (stills.root / "images/x.png").write_bytes((stills.root / "images/damaged.png").read_bytes())
    assert usable() == 3
    assert looked_at == [("checking each picture of Made", 9), ("checking each picture of Made", 1)]


def test_a_file_that_the_table_should_name_needs_its_column(stills):
    with pytest.raises(DataError, match=r"streams\.picture\.column=photo: Made has no such column; it has .*image"):
        manifest_of(stills, inputs_of(picture=image(column="photo")))


def test_an_image_is_read_from_packs_that_hold_frames(films):
    packed = PackedFormat(0, 4.0, 32)
    streams_of(inputs_of(picture=image()))["picture"].require_packed(packed, "pack")
    for settings, why in (
        ({"column": "image"}, "holds no files of the column image"),
        ({"train_size": 64}, "frames of 32 pixels"),
    ):
        with pytest.raises(DataError, match=why):
            streams_of(inputs_of(picture=image(**settings)))["picture"].require_packed(packed, "pack")


# flow


@pytest.fixture
def flows(tmp_path: Path) -> Made:
    """Flow of 4 s at 5 a second: x is the number of the field, y its row; one file of a clip in 8 bits."""
    fields = np.zeros((20, 6, 8, 2), np.float16)
    fields[..., 0], fields[..., 1] = np.arange(20)[:, None, None], np.arange(6)[:, None]
    (tmp_path / "flow").mkdir()
    np.save(tmp_path / "flow/a.npy", fields)
    np.savez(tmp_path / "b_flow.npz", features=np.round((fields / 20 + 1) / 2 * 255).astype(np.uint8))
    return Made(tmp_path, {"clip_id": ["a", "b", "none"]}, seconds=SECONDS)


def flow(**settings) -> dict:
    return {"kind": "flow", "rate": 5, "frames": 10, "size": 6, "train_size": 6, **settings}


def test_flow_is_the_fields_of_the_stretch_in_shares_of_the_bound(flows):
    manifest = manifest_of(flows, inputs_of(motion=flow()))
    assert left_out(manifest) == {"no flow": 1}
    batch = batch_of(flows, inputs_of(motion=flow(frames=30, bound=15.0)))
    assert batch["motion"].shape == (2, 2, 30, 6, 6) and batch["motion_length"].tolist() == [20, 20]
    floats, bits = batch["motion"]
    assert torch.allclose(floats[0, :20, 0, 0], (torch.arange(20) / 15).clamp(max=1)) and not floats[:, 20:].any()
    assert torch.allclose(floats[1, 0, :, 0] * 15, torch.arange(6.0))
    assert torch.allclose(bits[0, :20, 0, 0], torch.arange(20) / 20, atol=0.005)
    again = batch_of(flows, inputs_of(motion=flow(frames=30, past_end="repeat")))["motion"]
    assert torch.equal(again[:, :, 20:], again[:, :, :10])


def test_flow_of_a_window_begins_with_it(flows):
    window = {"late": WindowConfig(lies="shifted", by=[1.0, 1.0])}
    inputs = inputs_of(window, own=flow(frames=5), late=flow(frames=5, window="late"))
    batch = batch_of(flows, inputs, epoch=1)
    assert torch.allclose(batch["late"][:, 0] - batch["own"][:, 0], torch.tensor(5 / 20), atol=0.005)


def test_flow_is_cropped_as_frames_are_and_x_is_negated_where_it_is_flipped(tmp_path):
    """A field of displacements to the right, of which the left half is still; frames whose left half is black."""
    right = np.zeros((20, 32, 32, 2), np.float32)
    right[:, :, 16:, 0] = right[:, :, 16:, 1] = 20
    names = [str(number) for number in range(8)]
    picture = (right[0, ..., :1].repeat(3, 2) * 12.75).astype(np.uint8)
    for name in names:
        np.save(tmp_path / f"{name}_flow.npy", right)
        write_media(tmp_path / f"{name}.mp4", frames=[picture] * 20, fps=5, video_options={"crf": "0"})
    inputs = inputs_of(motion=flow(size=24, train_size=32))
    inputs.video = VideoInputs(10, 5.0, 24, 32, **PLAIN)
    batch = batch_of(Made(tmp_path, {"clip_id": names}), inputs, 1, AugmentConfig(crop_scale=0.4, flip=True))
    x, y = batch["motion"].unbind(1)
    torch.testing.assert_close(y, batch["video"].mean(1), rtol=0, atol=0.04)
    mirrored = x.flatten(1).sum(1) < 0
    assert 0 < mirrored.sum() < 8
    torch.testing.assert_close(x, torch.where(mirrored.view(-1, 1, 1, 1), -y, y))


def test_flow_that_is_damaged_is_counted_by_what_is_wrong_with_it(flows):
    np.save(flows.root / "flow/a.npy", np.zeros((4, 6, 8), np.float32))
    archive = (flows.root / "b_flow.npz").read_bytes()
    (flows.root / "b_flow.npz").write_bytes(archive[: len(archive) // 2])
    fields = (flows.root / "flow/a.npy").read_bytes()
    (flows.root / "flow/none.npy").write_bytes(fields[: len(fields) // 2])
    with pytest.raises(DataError, match=r"2 flow: unreadable \(e.g. b, none\); 1 flow: wrong shape \(e.g. a\)"):
        manifest_of(flows, inputs_of(motion=flow()))


def test_flow_that_is_not_finite_is_a_fault_of_its_clip(flows, caplog):
    """Its numbers are looked at when they are read."""
    np.save(flows.root / "flow/a.npy", np.full((20, 6, 6, 2), np.nan))
    inputs = inputs_of(motion=flow())
    clips = clips_of(manifest_of(flows, inputs), inputs)
    assert clips[ClipRef(0, EVALUATION)] == [] and "not finite" in caplog.text
    assert clips[ClipRef(0, 0)][0]["clip_id"] == "b"


# mask


@pytest.fixture
def masks(tmp_path: Path) -> Made:
    """Masks of a palette, in grey and in black and white, with videos that show them; others cannot be used."""
    numbers = np.zeros((32, 32), np.uint8)
    numbers[:, 16:], numbers[20:] = 1, 2
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(numbers).save(tmp_path / "grey.png")
    Image.fromarray(numbers == 1).save(tmp_path / "black.png")
    Image.fromarray((numbers > 0)[..., None].repeat(3, 2).astype(np.uint8) * 255).save(tmp_path / "white.png")
    palette.convert("RGB").save(tmp_path / "colours.png")
    palette.save(tmp_path / "whole.gif")
    (tmp_path / "cut.gif").write_bytes((tmp_path / "whole.gif").read_bytes()[:-8])
    names = ["palette.png", "grey.png", "black.png", "white.png", "colours.png", "cut.gif", "gone.png", None]
    for number in range(len(names)):
        write_media(
            tmp_path / f"{number}.mp4", frames=[numbers[..., None].repeat(3, 2) * 100] * 4, video_options={"crf": "0"}
        )
    return Made(tmp_path, {"clip_id": [str(n) for n in range(len(names))], "mask_path": names})


def mask(**settings) -> dict:
    return {"kind": "mask", "size": 32, "train_size": 32, **settings}


def test_a_mask_is_the_numbers_of_its_pixels(masks):
    manifest = manifest_of(masks, inputs_of(where=mask()))
    reasons = ("no mask", "mask: missing", "mask: truncated", "mask: undecodable")
    assert left_out(manifest) == dict.fromkeys(reasons, 1)
    seen = batch_of(masks, inputs_of(where=mask()), rows=range(4))["where"]
    expected = np.asarray(Image.open(masks.root / "palette.png"))
    assert np.array_equal(seen[0], expected) and np.array_equal(seen[1], expected)
    white = batch_of(masks, inputs_of(where=mask(step=255)), rows=range(4))["where"]
    assert np.array_equal(white[2], expected == 1) and np.array_equal(white[3] > 0, expected > 0)
    with pytest.raises(MediaError, match="its pixels are colours"):
        read_numbers(masks.root / "colours.png")


def test_a_mask_is_resized_by_the_nearest_pixel(masks):
    seen = batch_of(masks, inputs_of(where=mask(size=13)), rows=[0])["where"][0]
    expected = Image.open(masks.root / "grey.png").resize((13, 13), Image.Resampling.NEAREST)
    assert np.array_equal(seen, np.asarray(expected))


def test_a_mask_is_cropped_and_flipped_as_the_frames_of_its_window(masks):
    inputs = inputs_of(TWO_SAME, where=mask(size=24, window="twice"))
    video = {"kind": "frames", "frames": 1, "fps": 10.0, "size": 24, "train_size": 32, "window": "twice", **PLAIN}
    inputs.streams["film"] = video
    for epoch in range(3):
        batch = batch_of(masks, inputs, epoch, AugmentConfig(crop_scale=0.3, flip=True), rows=[0, 1])
        shown = batch["film"][:, :, 0, 0] * 255 / 100
        assert batch["where"].shape == (2, 2, 24, 24)
        assert ((shown.round() - batch["where"]).abs() > 0).float().mean() < 0.08  # edges of the frames are blurred
        assert not torch.equal(batch["where"][:, 0], batch["where"][:, 1])


# parts of streams


def test_no_stream_is_called_as_a_part_of_another(tmp_path):
    streams = {"asked": {"kind": "question"}, "asked_answer": {"kind": "offset"}}
    with pytest.raises(DataError, match=r"streams\.asked_answer: a batch has the answer of asked under this name"):
        streams_of(inputs_of(**streams))
