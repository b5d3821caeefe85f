"""What must hold of the sample data of every dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import registry
from datamodules import sample
from datamodules.source import DataError

OWN = [name for name, place in registry.datasets().items() if place.startswith("datamodules.")]
WRITERS = {name: registry.dataset(name).__module__.rpartition(".")[2] for name in OWN}
"""Dataset -> its file, after which the writer of its sample is called."""
MEDIA = {".wav", ".flac", ".mp4", ".mkv", ".avi", ".npz", ".jpg", ".JPEG"}
"""Suffixes of media files, of their features and of pictures."""

every_sample = pytest.mark.parametrize("name", sorted(set(WRITERS.values())))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_dataset_has_a_writer_of_its_sample_and_every_writer_a_dataset():
    assert set(sample.layouts()) == set(WRITERS.values())
    for name, file in WRITERS.items():
        layout = sample.layouts()[file]
        assert layout.FOLDER in registry.dataset(name).folders and all(layout.COUNTS.values())


def test_a_dataset_of_another_package_has_no_sample(tmp_path):
    kind = type("Birds", (registry.dataset("esc50"),), {"name": "birds", "__module__": "avl_birds"})
    with pytest.raises(DataError, match=r"no sample data of birds; give the real one with data_root=FOLDER"):
        sample.make_for(kind, tmp_path)


@every_sample
def test_it_is_made_and_known_as_such(name, tmp_path):
    layout = sample.layouts()[name]
    two, one = ({split: count for split in layout.COUNTS} for count in (2, 1))
    sample.make(tmp_path / "two", [name], counts={name: two}, workers=1)
    folder = tmp_path / "two" / layout.FOLDER
    (tmp_path / "lists").mkdir()
    clips = layout.lay_out(tmp_path / "lists", 0, two)
    made = {clip: folder / clip.path.relative_to(tmp_path / "lists") for clip in clips}
    assert len({(path, clip.begin) for clip, path in made.items()}) == 2 * len(two)
    assert all(path.is_file() == (clip.flaw != "missing") for clip, path in made.items())

    # The same again, and a clip does not depend on how many there are.
    sample.make(tmp_path / "one", [name], counts={name: one}, workers=1)
    of_two, of_one = contents(folder), contents(tmp_path / "one" / layout.FOLDER)
    few = {path: content for path, content in of_one.items() if Path(path).suffix in MEDIA}
    of_files = [clip for clip in clips if clip.begin is None]
    made_of = {Path(path).stem.removesuffix("_2d").removesuffix("_3d") for path in few}
    assert len(made_of) == (len(one) if of_files else 0)
    assert all(of_two[path] == content for path, content in few.items())

    dataset = registry.dataset(name)
    assert dataset(folder).is_sample and {dataset(folder).official_size(split) for split in dataset.splits} == {None}
    (folder / "SAMPLE.json").unlink()
    sizes = {split: dataset(folder).official_size(split) for split in dataset.splits}
    assert sizes == {split: dataset.sizes.get(split) for split in dataset.splits}


@every_sample
def test_a_seed_gives_the_same_files_and_another_seed_other_clips(name, tmp_path):
    layout, clips = sample.layouts()[name], []
    counts = {split: min(count, 16) for split, count in layout.COUNTS.items()}
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        clips.append(layout.lay_out(tmp_path / str(number), seed, counts))
    assert contents(tmp_path / "0") == contents(tmp_path / "1") != contents(tmp_path / "2")
    same, again, other = ([repr(clip.scene) for clip in of_seed] for of_seed in clips)
    assert same == again and not set(same) & set(other) and len(set(same)) == len(same)
