"""Feature files: found by name, read by window. The reference reads everything and slices it as AVLnet does."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from datamodules.features.arrays import REASONS, FeatureError
from datamodules.features.stored import check_features, index_features, read_window
from datamodules.source import DataError
from datamodules.types import FeatureInputs

SLOW, FAST = 30, 45
INPUTS = FeatureInputs(dims=[2, 3], frames=15)


def numbered(rows: int, dim: int, dtype: type = np.float16) -> np.ndarray:
    """[rows, dim] with the row's number in each."""
    return np.arange(rows, dtype=dtype)[:, None].repeat(dim, 1)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """30 s: an archive at 1 a second, an array at 1.5."""
    folder = tmp_path_factory.mktemp("features")
    np.savez(folder / "a_2d.npz", features=numbered(SLOW, 2), other=np.zeros(3))
    np.save(folder / "a_3d.npy", numbered(FAST, 3, np.float32))
    return [str(folder / "a_2d.npz"), str(folder / "a_3d.npy")]


def test_index_knows_the_layouts_in_use(tmp_path: Path) -> None:
    wanted = {
        "food/video_a/-b_c_2d.npz": ("2d", "-b_c"),
        "food/video_a/-b_c_3d.npz": ("3d", "-b_c"),
        "_2d_x_2d_2d.npy": ("2d", "_2d_x_2d"),
        "2d/train/__p__.npy": ("2d", "__p__"),
        "3d/deep/er/-q.npz": ("3d", "-q"),
        "clip/2d/innermost.npy": ("2d", "innermost"),
        "y_clip_2d.npy": ("clip_2d", "y"),
        "2d/misplaced_3d.npy": ("3d", "misplaced"),
    }
    for name in [*wanted, "plain.npy", "food/z_spec.npz", "-b_c_2d.mp4", ".hidden/h_2d.npy", ".t_2d.npy.1.tmp"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = index_features(tmp_path, ["2d", "3d", "clip_2d"])
    for name, (kind, video_id) in wanted.items():
        assert found[kind][video_id] == str(tmp_path / name), name
    # Beside these only an id that ends like a kind, in a folder of another.
    assert {(k, v) for k in found for v in found[k]} == {*wanted.values(), ("2d", "misplaced_3d")}
    assert index_features(tmp_path, ["x"])["x"]["plain"] == str(tmp_path / "plain.npy")


def test_a_link_named_after_a_kind_says_so_wherever_it_leads(tmp_path: Path) -> None:
    """Each folder is visited once, and the first way to it may have another name."""
    for folder, link in (("01_raw", "2d"), ("howto_s3d", "s3d")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{link}vid.npy").touch()
        (tmp_path / link).symlink_to(folder)
    found = index_features(tmp_path, ["2d", "s3d"])
    assert {kind: list(videos) for kind, videos in found.items()} == {"2d": ["2dvid"], "s3d": ["s3dvid"]}


def test_index_prefers_the_clearer_name_and_the_array_over_the_archive(tmp_path: Path) -> None:
    (tmp_path / "2d").mkdir()
    for name in ("2d/v.npy", "v_2d.npy", "v_2d.npz", "2d/xxxxxxxx_2d.npy"):
        (tmp_path / name).touch()
    found = index_features(tmp_path, ["2d"])["2d"]
    assert found["v"] == str(tmp_path / "v_2d.npy")
    assert found["xxxxxxxx_2d"] == str(tmp_path / "2d/xxxxxxxx_2d.npy")
    with pytest.raises(DataError, match=r"absent: there is no such folder"):
        index_features(tmp_path / "absent", ["2d"])


def test_a_window_by_hand(paths: list[str]) -> None:
    """4 to 7 s: rows 4..7 at 1 a second and 6..10 at 1.5, of which the first are repeated to the second."""
    window = read_window(paths, INPUTS, 4.0, 7.0)
    assert window.dtype == np.float32
    assert window[:, 0].tolist() == window[:, 1].tolist() == [4, 4, 5, 6, 7]
    assert window[:, 2].tolist() == window[:, 4].tolist() == [6, 7, 8, 9, 10]


def test_a_window_is_cut_and_ends_with_the_features(paths: list[str]) -> None:
    assert read_window(paths, INPUTS, 0.0, 30.0)[:, 2].tolist() == list(range(15))
    assert read_window(paths, INPUTS, 28.0, np.inf)[:, [0, 2]].tolist() == [[28, 42], [28, 43], [29, 44]]
    assert read_window(paths, INPUTS, 30.0, 40.0).shape == (0, 5)
    with pytest.raises(ValueError, match="window from 3"):
        read_window(paths, INPUTS, 3.0, 2.0)


@given(st.floats(0, 40), st.floats(0, 40), st.integers(1, 60))
def test_windows_equal_everything_sliced(paths: list[str], start: float, seconds: float, frames: int) -> None:
    inputs = FeatureInputs(dims=[2, 3], frames=frames)
    window = read_window(paths, inputs, start, start + seconds)
    slow, fast = (
        torch.from_numpy(numbered(n, dim, np.float32))[int(start * rate) : int((start + seconds) * rate) + 1]
        for n, dim, rate in ((SLOW, 2, 1.0), (FAST, 3, 1.5))
    )
    if not len(slow) or not len(fast):
        assert window.shape == (0, 5)
        return
    slow = F.interpolate(slow.T[None], size=len(fast), mode="nearest")[0].T
    assert np.array_equal(window, torch.cat([slow, fast], 1)[:frames].numpy())
    assert (np.diff(window, axis=0) >= 0).all()


def test_the_clock_is_the_fastest_kind_and_the_order_that_of_the_kinds(paths: list[str]) -> None:
    inputs = FeatureInputs(kinds=["3d", "2d"], rates=[1.5, 1.0], dims=[3, 2])
    assert np.array_equal(
        read_window(paths[::-1], inputs, 4.0, 7.0), read_window(paths, INPUTS, 4.0, 7.0)[:, [2, 3, 4, 0, 1]]
    )


def test_only_the_window_of_an_array_is_read(tmp_path: Path) -> None:
    """A sparse file of 4 TB, which no memory holds."""
    path = tmp_path / "long.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (1 << 30, 2048)})
        file.truncate(file.tell() + (1 << 30) * 2048 * 2)
    inputs = FeatureInputs(kinds=["2d"], rates=[1.0], dims=[2048], frames=4)
    assert read_window([str(path)], inputs, 1e9, 1e9 + 9).shape == (4, 2048)


def test_an_archive_of_one_array_may_call_it_anything(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "one.npz", numbered(4, 2))
    assert check_features(tmp_path / "one.npz", 2) == 4
    np.savez(tmp_path / "two.npz", numbered(4, 2), numbered(4, 2))
    with pytest.raises(FeatureError, match="arr_0, arr_1, and none is called features"):
        check_features(tmp_path / "two.npz", 2)


BAD = {
    "wrong shape": [np.zeros((3, 4)), np.zeros(2), np.zeros((1, 3, 2))],
    "wrong type": [np.zeros((3, 2), np.float64), np.zeros((3, 2), np.int16), np.full((3, 2), "x")],
    "not finite": [np.array([[0, 1], [np.nan, 1]]), np.array([[0, np.inf]])],
    "unreadable": [np.array([[{}, None]], dtype=object)],
}


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("reason", BAD)
def test_bad_arrays_have_a_reason(tmp_path: Path, reason: str, suffix: str) -> None:
    path = tmp_path / f"bad.{suffix}"
    inputs = FeatureInputs(kinds=["2d"], rates=[1.0], dims=[2])
    for array in BAD[reason]:
        array = array if reason in ("wrong type", "unreadable") else array.astype(np.float16)
        (np.save if suffix == "npy" else np.savez)(path, array)
        with pytest.raises(FeatureError) as error:
            check_features(path, 2)
        assert error.value.reason == reason and error.value.path == path
        with pytest.raises(FeatureError, match=reason):
            read_window([str(path)], inputs, 0.0, 9.0)


def test_damaged_files_have_a_reason(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", numbered(50, 2))
    np.savez_compressed(tmp_path / "whole.npz", features=numbered(50, 2))
    for whole in (tmp_path / "whole.npy", tmp_path / "whole.npz"):
        content, path = whole.read_bytes(), tmp_path / f"cut{whole.suffix}"
        flipped = bytearray(content)
        flipped[100] ^= 0xFF
        cuts = [content[:n] for n in (0, 3, 8, 60, len(content) // 2, len(content) - 1)]
        for damaged in [*cuts, b"\x80\x04K\x01.", b"text"] + ([bytes(flipped)] if whole.suffix == ".npz" else []):
            path.write_bytes(damaged)
            with pytest.raises(FeatureError) as error:
                check_features(path, 2)
            assert error.value.reason == "unreadable"
    with pytest.raises(FeatureError) as error:
        check_features(tmp_path / "absent.npy", 2)
    assert error.value.reason == "missing"


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(FeatureError("a.npy", "missing")))
    assert (error.path, error.reason, error.detail) == (Path("a.npy"), "missing", REASONS["missing"])
