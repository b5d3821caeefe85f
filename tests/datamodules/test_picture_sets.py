"""Datasets of pictures: the layouts in which people have them, and the quirks of their files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datamodules.cifar10 import CIFAR10
from datamodules.cifar100 import CIFAR100
from datamodules.imagenet import ImageNet
from datamodules.loading.samplers import EVALUATION
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.manifest.exclusions import MALFORMED
from datamodules.media.container import MediaError
from datamodules.media.parts import content_of, part_of
from datamodules.media.pictures import read_picture
from datamodules.packing.pack import pack
from datamodules.packing.shards import PackedFormat, files_to_pack, open_pack
from datamodules.pets import Pets
from datamodules.picture_sets import is_held_out
from datamodules.resisc45 import RESISC45
from datamodules.source import DataError, Source
from datamodules.survey.walk import PICTURE, survey
from datamodules.types import AugmentConfig, Inputs
from datamodules.voc07 import VOC07
from tests.datamodules.made_dataset import batch_from

SIDE, PIXELS = 32, 3 * 32 * 32
SMALL = {"size": 24, "train_size": 28}
TENCH, SHARK, CRANE = "n01440764", "n01484850", "n02012849"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def touch(root: Path, *names: str) -> None:
    write(root, dict.fromkeys(names, ""))


def labelled(source: Source, split: str) -> dict[str, str]:
    """Clip -> the name of its class."""
    table = source.read_split(split).clips
    return {clip: source.classes[label] for clip, (label,) in zip(table["clip_id"], table["labels"], strict=True)}


def manifest_of(source: Source, split: str, tmp_path: Path) -> Manifest:
    inputs = Inputs(None, None, streams=source.defaults["inputs"]["streams"])
    return build_manifest(source, [split], inputs, Checks(tmp_path / "checks", workers=1))


# What is held out


def test_what_is_held_out_is_a_share_drawn_over_all_pictures_whatever_their_order():
    ids = pd.Series([f"n{number:08}_{number}" for number in range(1000)])
    held = is_held_out(ids, 0.02)
    assert held.sum() == 20 and 2 <= held[:500].sum() <= 18, "not the last ones, which would be of the last classes"
    backwards = is_held_out(ids[::-1].reset_index(drop=True), 0.02)
    assert backwards[::-1].tolist() == held.tolist()


def test_the_two_parts_of_a_training_split_are_all_of_it(tmp_path):
    touch(tmp_path, *(f"train/{TENCH}/{TENCH}_{number}.JPEG" for number in range(150)))
    write(tmp_path, {"LOC_synset_mapping.txt": f"{TENCH} tench, Tinca tinca\n"})
    ids = {split: set(labelled(ImageNet(tmp_path), split)) for split in ("train", "fit", "held_out")}
    assert ids["fit"] | ids["held_out"] == ids["train"] and not ids["fit"] & ids["held_out"]
    assert len(ids["held_out"]) == 2


# ImageNet


def devkit(root: Path, truth: str) -> None:
    """Numbers that are not in the order of the wnids, and a synset above the others."""
    rows = [(1, CRANE, "crane", 0), (2, TENCH, "tench, Tinca tinca", 0), (3, "n00001740", "entity", 2)]
    columns = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    synsets = np.empty((len(rows), 1), dtype=[(name, object) for name in columns])
    synsets[:, 0] = rows
    (root / "devkit/data").mkdir(parents=True)
    savemat(root / "devkit/data/meta.mat", {"synsets": synsets})
    write(root, {"devkit/data/ILSVRC2012_validation_ground_truth.txt": truth})


FLAT = ("val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG")
SAID = {"ILSVRC2012_val_00000001": CRANE, "ILSVRC2012_val_00000002": TENCH}


def test_the_devkits_numbers_are_not_the_class_index(tmp_path):
    touch(tmp_path, *FLAT)
    devkit(tmp_path, "1\n2\n")
    source = ImageNet(tmp_path)
    assert source.classes == [TENCH, CRANE] and source.class_texts == ["tench", "crane"]
    assert labelled(source, "val") == SAID


def test_val_is_read_by_its_folders_where_it_has_some_and_else_by_one_of_two_files_and_it_is_said_which(
    tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    mapping = {"LOC_synset_mapping.txt": f"{CRANE} crane\n{TENCH} tench, Tinca tinca\n"}
    solution = (
        f"ImageId,PredictionString\n{FLAT[0][4:-5]},{CRANE} 1 2 3 4 {CRANE} 5 6 7 8 \n{FLAT[1][4:-5]},{TENCH} 1 1 1 1\n"
    )
    kaggle, folders, neither = (tmp_path / name for name in ("kaggle", "folders", "neither"))
    write(kaggle, mapping | {"LOC_val_solution.csv": solution})
    touch(kaggle, *(f"ILSVRC/Data/CLS-LOC/{name}" for name in FLAT))
    write(folders, mapping)
    touch(folders, FLAT[0].replace("val/", f"val/{CRANE}/"), FLAT[1].replace("val/", f"val/{TENCH}/"))
    assert labelled(ImageNet(kaggle), "val") == labelled(ImageNet(folders), "val") == SAID
    assert [message.rpartition(" by ")[2] for message in caplog.messages] == ["LOC_val_solution.csv", "its folders"]
    assert ImageNet(kaggle).read_split("val").clips["picture"][0] == f"ILSVRC/Data/CLS-LOC/{FLAT[0]}"

    write(neither, mapping)
    touch(neither, *FLAT)
    with pytest.raises(DataError, match=r"neither ILSVRC2012_validation_ground_truth\.txt nor LOC_val_solution\.csv"):
        ImageNet(neither).read_split("val")


def test_without_a_list_of_synsets_a_thousand_training_folders_are_one_and_fewer_are_none(tmp_path):
    touch(tmp_path, f"train/{TENCH}/{TENCH}_1.JPEG", f"train/{SHARK}/{SHARK}_1.JPEG")
    with pytest.raises(DataError, match=r"2 of 1000 training folders.*LOC_synset_mapping\.txt"):
        ImageNet(tmp_path).read_split("train")
    for number in range(998):
        (tmp_path / f"train/n{number:08}").mkdir()
    assert set(labelled(ImageNet(tmp_path), "train").values()) == {TENCH, SHARK}


def test_a_folder_of_no_synset_is_counted(tmp_path):
    write(tmp_path, {"LOC_synset_mapping.txt": f"{TENCH} tench\n"})
    touch(
        tmp_path,
        f"train/{TENCH}/{TENCH}_1.JPEG",
        f"train/{TENCH}/notes.txt",
        "train/.cache/a.JPEG",
        "train/mine/b.JPEG",
    )
    official = ImageNet(tmp_path).read_split("train")
    assert official.clips["clip_id"].tolist() == [f"{TENCH}_1"]
    assert official.malformed == ["mine/b.JPEG: unknown label 'mine'"]


def test_a_cmyk_picture_and_a_png_that_is_called_jpeg_are_read_and_one_cut_off_is_counted(tmp_path):
    write(tmp_path, {"LOC_synset_mapping.txt": f"{TENCH} tench\n"})
    folder = tmp_path / "train" / TENCH
    folder.mkdir(parents=True)
    red = Image.new("RGB", (40, 30), (250, 10, 20))
    red.convert("CMYK").save(folder / f"{TENCH}_1.JPEG")
    red.save(folder / f"{TENCH}_2.JPEG", "PNG")
    red.save(folder / f"{TENCH}_3.JPEG")
    content = (folder / f"{TENCH}_3.JPEG").read_bytes()
    (folder / f"{TENCH}_3.JPEG").write_bytes(content[: len(content) - 30])
    manifest = manifest_of(ImageNet(tmp_path), "train", tmp_path)
    assert manifest.table["clip_id"].tolist() == [f"{TENCH}_1", f"{TENCH}_2"]
    assert manifest.excluded["picture: truncated"] == 1
    for path in manifest.table["image_path"]:
        assert np.abs(read_picture(path, 8).astype(int) - (250, 10, 20)).max() < 4


# CIFAR


def records(*numbers: tuple[int, ...], pictures: np.ndarray | None = None) -> bytes:
    pictures = np.zeros((len(numbers), PIXELS), np.uint8) if pictures is None else pictures
    return b"".join(bytes(each) + picture.tobytes() for each, picture in zip(numbers, pictures, strict=True))


@pytest.fixture
def cifar10(tmp_path: Path):
    write(tmp_path, {"cifar-10-batches-bin/batches.meta.txt": "airplane\nautomobile\nbird\n\n"})
    for name in (*CIFAR10.train_files, CIFAR10.test_file):
        (tmp_path / "cifar-10-batches-bin" / name).write_bytes(records((2,), (0,)))
    return tmp_path


def test_cifars_pictures_are_read_where_they_lie_in_planes_of_red_green_and_blue(cifar10):
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(2, PIXELS), dtype=np.uint8)
    (cifar10 / "cifar-10-batches-bin/data_batch_3.bin").write_bytes(records((1,), (2,), pictures=pictures))
    manifest = manifest_of(CIFAR10(cifar10), "train", cifar10)
    assert len(manifest) == 10
    row = manifest.table.set_index("clip_id").loc["data_batch_3_00001"]
    wanted = pictures[1].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
    assert list(row["labels"]) == [2]
    np.testing.assert_array_equal(read_picture(row["image_path"], SIDE), wanted)
    larger = np.asarray(Image.fromarray(wanted).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(read_picture(row["image_path"], 64) - larger).mean() < 2


def test_a_survey_says_what_of_the_pictures_can_be_used_and_that_the_boards_are_ready(cifar10, tmp_path):
    (cifar10 / "cifar-10-batches-bin/test_batch.bin").write_bytes(records((0,), (9,), (1,)))
    found = survey(CIFAR10(cifar10), Checks(tmp_path / "checks", workers=1), None, min_coverage=0.0)
    facts = found.splits["test"]
    assert facts.need == PICTURE and facts.usable[PICTURE].clips == 2 and facts.usable["pictures"].clips == 0
    assert facts.usable[PICTURE].excluded[MALFORMED] == 1
    assert set(found.boards) == {"cifar10", "cifar10-linear", "cifar10-val"} and not any(found.boards.values())


def test_cifar100_has_the_number_of_the_superclass_first(tmp_path):
    write(tmp_path, {"fine_label_names.txt": "apple\naquarium_fish\n", "coarse_label_names.txt": "fish\nfruit\n"})
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(records((1, 0), (0, 1), pictures=np.full((2, PIXELS), 7, np.uint8)))
    source = CIFAR100(tmp_path)
    assert labelled(source, "test") == {"test_00000": "apple", "test_00001": "aquarium_fish"}
    for place in source.read_split("test").clips["picture"]:
        assert (read_picture(tmp_path / place, 8) == 7).all()


def test_a_number_of_no_class_and_a_record_that_is_cut_off_are_counted(cifar10):
    (cifar10 / "cifar-10-batches-bin/test_batch.bin").write_bytes(records((0,), (9,), (1,))[:-10])
    official = CIFAR10(cifar10).read_split("test")
    assert official.clips["clip_id"].tolist() == ["test_batch_00000"]
    assert official.malformed == [
        "test_batch_00001: unknown label '9'",
        "test_batch_00002: the file ends within it",
    ]


def test_the_python_version_is_not_read_and_the_error_names_the_other(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py/data_batch_1").write_bytes(b"\x80\x02}")
    with pytest.raises(
        DataError, match=r"cifar-10-binary\.tar\.gz, the binary version \(the python version is a pickle"
    ):
        CIFAR10(tmp_path).read_split("train")


@pytest.mark.parametrize("epoch", [EVALUATION, 3])
def test_a_pack_of_cifar_is_read_as_its_files_are(cifar10, tmp_path, epoch):
    pictures = np.random.default_rng(1).integers(256, size=(2, PIXELS), dtype=np.uint8)
    (cifar10 / "cifar-10-batches-bin/test_batch.bin").write_bytes(records((0,), (2,), pictures=pictures))
    inputs = Inputs(None, None, streams={"image": CIFAR10.defaults["inputs"]["streams"]["image"] | SMALL})
    manifest, files = manifest_of(CIFAR10(cifar10), "test", tmp_path), files_to_pack(inputs)
    pack(manifest, "cifar10", "test", str(tmp_path / "pack"), PackedFormat(0, 0.0, 0, tuple(files)), files, workers=1)
    opened = open_pack(str(tmp_path / "pack"), ["test"], inputs, "cifar10")
    augment = AugmentConfig(crop_scale=0.5, flip=True)
    own, theirs = (batch_from(each, inputs, epoch, augment) for each in (manifest, opened))
    assert own["clip_id"] == theirs["clip_id"] and own["image"].shape == (2, 3, 24, 24) and own["image"].std() > 0.1
    assert torch.equal(own["image"], theirs["image"])


def test_a_part_is_a_picture_of_its_own_in_a_pack_and_a_file_that_has_lost_it_is_a_fault(tmp_path):
    path = tmp_path / "train.bin"
    path.write_bytes(bytes(range(48)))
    part = part_of(str(path), 0, 4)
    (tmp_path / "alone.ppm").write_bytes(content_of(part))
    np.testing.assert_array_equal(read_picture(tmp_path / "alone.ppm", 4), read_picture(part, 4))
    for fault, place in (("truncated", part_of(str(path), 1, 4)), ("missing", part_of(str(tmp_path / "x.bin"), 0, 4))):
        with pytest.raises(MediaError) as error:
            read_picture(place, 4)
        assert error.value.reason == fault


# Oxford-IIIT Pet

CATS_AND_DOGS = "Abyssinian_100 1 1 1\namerican_bulldog_9 2 2 1\nBengal_1 3 1 2\n"


def test_breeds_are_in_the_order_of_their_numbers_which_is_not_that_of_their_letters(tmp_path):
    write(tmp_path, {"annotations/trainval.txt": CATS_AND_DOGS, "annotations/test.txt": "Bengal_2 3 1 2\n"})
    source = Pets(tmp_path)
    assert source.classes == ["Abyssinian", "american_bulldog", "Bengal"] != sorted(source.classes)
    assert labelled(source, "test") == {"Bengal_2": "Bengal"}
    assert source.read_split("trainval").clips["picture"][1] == "images/american_bulldog_9.jpg"


def test_comments_are_no_rows_and_another_breeds_number_is_counted(tmp_path):
    head = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n"
    wrong = head + CATS_AND_DOGS + "Bengal_7 2 1 2\nBengal 3 1 2\n"
    write(tmp_path, {"annotations/trainval.txt": wrong, "annotations/test.txt": "Bengal_2 3 1 2\n"})
    official = Pets(tmp_path).read_split("trainval")
    assert len(official.clips) == 3
    assert official.malformed == [
        "trainval.txt:6: not the number of its breed: 2",
        "trainval.txt:7: no picture called <Breed>_<n>: Bengal",
    ]


# NWPU-RESISC45


@pytest.mark.parametrize("inside", ["", "NWPU-RESISC45/"])
def test_resisc45_lies_in_folders_of_classes_which_its_lists_do_not_name(tmp_path, inside):
    lists = {"train": "sea_ice_001.jpg\nlake_700.jpg\n", "val": "lake_2.jpg\n", "test": "airport_003.jpg\n"}
    write(tmp_path, {f"resisc45-{split}.txt": text for split, text in lists.items()})
    touch(tmp_path, f"{inside}sea_ice/sea_ice_001.jpg")
    source = RESISC45(tmp_path)
    assert source.classes == ["airport", "lake", "sea_ice"]
    assert source.read_split("train").clips["picture"].tolist() == [
        f"{inside}sea_ice/sea_ice_001.jpg",
        f"{inside}lake/lake_700.jpg",
    ]
    assert source.read_split("val").malformed == ["resisc45-val.txt:1: no name like <class>_<nnn>.jpg: lake_2.jpg"]


# PASCAL VOC 2007


def voc(root: Path, **lists: str) -> VOC07:
    """Lists of three pictures of test, in one of which a cat is seen with difficulty."""
    files = {"test": "000001\n000002\n000004\n", "cat_test": "000001  1\n000002 -1\n000004  0\n"}
    files |= {"tvmonitor_test": "000001 -1\n000002 -1\n000004  1\n"} | lists
    write(root, {f"VOCdevkit/VOC2007/ImageSets/Main/{name}.txt": text for name, text in files.items()})
    return VOC07(root)


def test_what_is_seen_with_difficulty_is_no_label_and_is_not_asked(tmp_path):
    source = voc(tmp_path)
    clips = source.read_split("test").clips
    assert source.classes == ["cat", "tvmonitor"]
    assert clips["labels"].tolist() == [[0], [], [1]] and clips["ignored"].tolist() == [[], [], [0]]
    assert clips["picture"][0] == "VOCdevkit/VOC2007/JPEGImages/000001.jpg"
    touch(tmp_path, "VOCdevkit/VOC2012/ImageSets/Main/cow_test.txt")
    assert VOC07(tmp_path / "VOCdevkit").classes == VOC07(tmp_path / "VOCdevkit/VOC2007").classes == source.classes


def test_a_picture_of_which_a_list_says_nothing_is_counted_with_the_list(tmp_path):
    official = voc(tmp_path, cat_test="000001  1\n000002 2\n000004  0\n").read_split("test")
    assert official.clips["clip_id"].tolist() == ["000001", "000004"]
    assert official.malformed == [
        "test.txt:2: cat_test.txt says nothing of the picture 000002",
        "cat_test.txt:2: none of 1, -1 and 0: 2",
    ]
