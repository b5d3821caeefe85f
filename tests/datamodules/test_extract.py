"""Features of real small videos, against the networks run by hand on frames that PyAV decoded on its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from datamodules.features import extract as module
from datamodules.features.extract import Extractor, Extractor2D, Extractor3D, extract
from datamodules.features.stored import check_features, index_features, read_window
from datamodules.media.decode import Media
from datamodules.source import DataError
from datamodules.types import FeatureInputs
from tests.media_files import numbered_frame, rotate_mp4, tone, write_media

NAME = "test_resnet"
MEAN = STD = (0.5, 0.5, 0.5)  # of this model's data configuration, not ImageNet's


def save_2d(path: Path, **more: torch.Tensor) -> Path:
    """A checkpoint of the small timm model as a training would leave it, classifier and all."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=7)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()} | more, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def two_d(tmp_path_factory: pytest.TempPathFactory) -> Extractor2D:
    return Extractor2D("test_resnet", save_2d(tmp_path_factory.mktemp("weights") / "2d.pth"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """3.5 s of 96 x 64 pixels at 10 frames a second, with sound."""
    frames = [numbered_frame(i, 96, 64) for i in range(35)]
    return write_media(tmp_path / "-a_.mp4", frames=frames, sound=tone(3.5, 16000))


def decoded(path: Path, width: int, height: int) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
            for frame in container.decode(video=0)
        ]


def normalised(frames: Iterable[np.ndarray], mean: Iterable[float], std: Iterable[float]) -> torch.Tensor:
    """float32 [T, 3, H, W]"""
    pixels = torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2).float() / 255
    return torchvision.transforms.functional.normalize(pixels, mean, std)


def by_hand(model: nn.Module, pixels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        features = model.eval()(pixels)
    return (features / features.norm(dim=1, keepdim=True)).numpy()


def test_2d_features_are_those_of_the_model_by_hand(tmp_path: Path, video: Path, two_d: Extractor2D) -> None:
    report = extract({"-a_": video}, tmp_path / "out", "2d", two_d, batch=3)
    assert (report.written, report.present, report.excluded) == (1, 0, {})
    path = index_features(tmp_path / "out", ["2d", "3d"])["2d"]["-a_"]
    features = np.load(path)
    assert features.dtype == np.float16

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=7)
    model.reset_classifier(0)
    frames = decoded(video, 336, 224)  # 96 x 64 with a short side of 224
    expected = by_hand(model, normalised(frames[0:35:10], MEAN, STD))
    assert check_features(path, expected.shape[1]) == 4 == len(expected)
    np.testing.assert_allclose(features, expected, atol=1e-3)
    assert np.abs(np.diff(expected, axis=0)).max() > 5e-3  # other frames would be seen

    inputs = FeatureInputs(kinds=["2d"], rates=[1.0], dims=[expected.shape[1]], frames=2)
    np.testing.assert_allclose(read_window([path], inputs, 2.0, 9.0), expected[2:], atol=1e-3)


def test_3d_features_are_those_of_the_model_by_hand(tmp_path: Path) -> None:
    """20 frames at 24 a second are a window, and one of 4 frames and 12 black ones."""
    torch.manual_seed(0)
    model = torchvision.models.video.r3d_18(num_classes=400)
    torch.save(model.state_dict(), tmp_path / "3d.pth")
    video = write_media(tmp_path / "v.mp4", frames=[numbered_frame(9 * i, 96, 64) for i in range(20)], fps=24)
    extractor = Extractor3D("r3d_18", tmp_path / "3d.pth")
    extract({"v": video}, tmp_path / "out", "3d", extractor)

    frames = [frame[:, 28:140] for frame in decoded(video, 168, 112)]
    frames += [np.zeros((112, 112, 3), np.uint8)] * 12
    pixels = normalised(frames, (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
    model.fc = nn.Identity()
    expected = by_hand(model, pixels.reshape(2, 16, 3, 112, 112).transpose(1, 2))
    features = np.load(tmp_path / "out/v_3d.npy")
    assert features.shape == (2, 512)
    np.testing.assert_allclose(features, expected, atol=1e-3)


class Brightness(Extractor):
    """[number of frames, mean of the first, mean of the last] of each group: cheap, and every frame counts."""

    fps, frames, short_side, device, origin = 5.0, 4, 16, "cpu", {"extractor": "brightness"}

    def forward(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        means = frames_NTHWC.mean((2, 3, 4))
        return np.stack([np.full(len(means), frames_NTHWC.shape[1]), means[:, 0], means[:, -1]], 1).astype(np.float32)


def test_blocks_do_not_change_the_features(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = {"v": video}
    extract(videos, tmp_path / "whole", "b", Brightness())
    monkeypatch.setattr(module, "BLOCK_FRAMES", 9)  # two groups at a time
    extract(videos, tmp_path / "blocks", "b", Brightness(), batch=1)
    whole = np.load(tmp_path / "whole/v_b.npy")
    assert whole.shape == (5, 3)  # 18 frames in groups of 4, of which the last has 2
    assert whole[-1, 2] == 0 < whole[-1, 1]
    assert np.array_equal(whole, np.load(tmp_path / "blocks/v_b.npy"))


def test_a_bad_video_is_counted_and_stops_nothing(tmp_path: Path, video: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video " * 50)
    sound = write_media(tmp_path / "sound.m4a", sound=tone(1, 16000))
    videos = {"absent": tmp_path / "x.mp4", "text": tmp_path / "text.mp4", "sound": sound, "good": video}
    report = extract({"empty": tmp_path / "empty.mp4", **videos}, tmp_path / "out", "b", Brightness())
    assert report.excluded == {"empty": "empty", "absent": "missing", "text": "not media", "sound": "no video"}
    assert report.written == 1 and "1 no video" in str(report)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.json", "good_b.npy"]


def test_features_that_are_not_numbers_are_not_written(tmp_path: Path, video: Path) -> None:
    class Broken(Brightness):
        def forward(self, frames_NTHWC: np.ndarray) -> np.ndarray:
            return super().forward(frames_NTHWC) * np.nan

    assert extract({"v": video}, tmp_path / "out", "b", Broken()).excluded == {"v": "not finite"}
    assert not (tmp_path / "out/v_b.npy").exists()


def test_an_extraction_goes_on_where_it_was_cut_off(tmp_path: Path, video: Path) -> None:
    class Cut(Brightness):
        calls = 0

        def forward(self, frames_NTHWC: np.ndarray) -> np.ndarray:
            Cut.calls += 1
            if Cut.calls == 2:
                raise KeyboardInterrupt
            return super().forward(frames_NTHWC)

    videos, out = dict.fromkeys("abc", video), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extract(videos, out, "b", Cut())
    assert sorted(path.name for path in out.iterdir()) == ["a_b.npy", "b.json"]
    before = (out / "a_b.npy").stat().st_mtime_ns
    report = extract(videos, out, "b", Cut())
    assert (report.written, report.present) == (2, 1)
    assert (out / "a_b.npy").stat().st_mtime_ns == before


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(file: object, array: np.ndarray) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        extract({"v": video}, tmp_path / "out", "b", Brightness())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.json"]


def test_features_of_two_networks_are_not_mixed(tmp_path: Path, two_d: Extractor2D) -> None:
    extract({}, tmp_path, "2d", two_d)
    extract({}, tmp_path, "2d", two_d)
    other = Extractor2D("test_resnet", save_2d(tmp_path / "other.pth", **{"module.fc.more": torch.zeros(1)}))
    with pytest.raises(DataError, match=r"2d\.json.*made otherwise"):
        extract({}, tmp_path, "2d", other)


@pytest.mark.parametrize(("make", "name"), [(Extractor2D, "test_resnet"), (Extractor3D, "r3d_18")])
def test_random_networks_are_refused(tmp_path: Path, make: type[Extractor], name: str) -> None:
    with pytest.raises(DataError, match="needs weights"):
        make(name)
    with pytest.raises(DataError, match="needs weights"):
        make(name, tmp_path / "w.pth", pretrained=True)


def test_checkpoints_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = save_2d(
        tmp_path / "w.pth", **{"module.extra.weight": torch.zeros(2), "module.conv1.0.weight": torch.ones(1)}
    )
    with pytest.raises(DataError, match=r"w\.pth.*1 unknown: extra\.weight; 1 of another shape: conv1\.0\.weight"):
        Extractor2D("test_resnet", path)
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"missing: .*, …"):
        Extractor3D("r3d_18", path)
    torch.save({"state_dict": print}, path)  # a function is no plain tensor
    with pytest.raises(DataError, match="it holds print, whose code could do anything"):
        Extractor2D("test_resnet", path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="it is no file of weights that torch can read"):
        Extractor2D("test_resnet", path)
    with pytest.raises(DataError, match="no video model 'r9d'"):
        Extractor3D("r9d", path)


def test_frames_keep_their_shape(tmp_path: Path) -> None:
    """By the short side, the long one rounded down; phones' rotation turns the shape, and what is in it."""
    path = write_media(tmp_path / "v.mp4", frames=[numbered_frame(i, 100, 64) for i in range(5)])
    with Media(path) as media:
        frames = media.frames_short_side([0.3, 0.0, 0.3], 31)
        assert media.frames_short_side([], 31).shape == (0, 31, 48, 3)
        with pytest.raises(ValueError, match="size 0 x 0"):
            media.frames_short_side([0.0], 0)
    expected = decoded(path, 48, 31)
    assert frames.shape == (3, 31, 48, 3)
    assert np.array_equal(frames, np.stack([expected[3], expected[0], expected[3]]))
    rotate_mp4(path, 90)
    with Media(path) as media:
        assert np.array_equal(media.frames_short_side([0.3], 31)[0], np.rot90(expected[3], -1))
