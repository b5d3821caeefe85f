"""VGG-SS and Flickr-SoundNet: boxes around what sounds, with the quirks of the official files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.flickr_soundnet import FlickrSoundNet
from datamodules.media.pictures import read_picture
from datamodules.sample import sound
from datamodules.sample.picture import FLOOR, SIZE, render
from datamodules.sample.sounding import MIDDLE, sounding
from datamodules.sample.world import keys
from datamodules.types import Inputs
from datamodules.vgg_ss import VGGSS
from tests.datamodules.packs import clips

BEYOND = -2.8823037615171176e16
ENTRIES = [
    {"file": "aaaaaaaaaaa_000012", "class": "elk bugling", "bbox": [[0.4, 0.25, 0.6, 0.75]]},
    {"file": "-_aaaaaaaaa_000030", "class": "subway, metro", "bbox": [[0.5, 0.25, BEYOND, 1], [0, 0, 0.5, 1.0]]},
    {"file": "bbbbbbbbbbb_000000", "class": "elk bugling", "bbox": [[0.5, 0.25, 1]]},
]


@pytest.fixture
def vgg_ss(tmp_path: Path) -> VGGSS:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/vggss.json").write_text(json.dumps(ENTRIES))
    lines = [*(entry["file"] for entry in ENTRIES), "ccccccccccc_000001", "ccccccccccc"]
    (tmp_path / "metadata/vggss_test.csv").write_text("".join(f"{line}\r\n" for line in lines))
    return VGGSS(tmp_path)


def test_vgg_ss_is_read_as_it_is_and_what_cannot_be_is_counted(vgg_ss):
    official = vgg_ss.read_split("test")
    table = official.clips
    assert table["clip_id"].tolist() == ["aaaaaaaaaaa_000012", "-_aaaaaaaaa_000030"]
    assert table["video_id"].tolist() == ["aaaaaaaaaaa", "-_aaaaaaaaa"]
    assert (table["start"].tolist(), table["end"].tolist()) == ([12, 30], [22, 40])
    assert vgg_ss.classes == ["elk bugling", "subway, metro"] and table["labels"].tolist() == [[0], [1]]
    assert table["frame"].tolist() == ["frames/aaaaaaaaaaa_000012.jpg", "frames/-_aaaaaaaaa_000030.jpg"]
    second = [list(box) for box in table["boxes"].tolist()[1]]
    assert second == [[0.5, 0.25, BEYOND, 1.0], [0.0, 0.0, 0.5, 1.0]], "cut to the picture where it is measured"
    assert official.malformed == [
        "vggss_test.csv:3: vggss.json: bbbbbbbbbbb_000000: a box is four numbers, not [0.5, 0.25, 1.0]",
        "vggss_test.csv:4: vggss.json has no boxes of ccccccccccc_000001",
        "vggss_test.csv:5: no file name like <id>_<start:06d>: ccccccccccc",
    ]


XML = (
    "<annotation><a1><bbox><name>dog</name><xmin>64</xmin><ymin>0</ymin><xmax>128</xmax><ymax>256</ymax></bbox></a1>"
    "<a2><bbox><name>dog</name><xmin>0</xmin><ymin>0</ymin><xmax>32</xmax><ymax>64</ymax></bbox></a2></annotation>"
)


@pytest.fixture
def flickr(tmp_path: Path) -> FlickrSoundNet:
    (tmp_path / "flickr_test.csv").write_bytes(b"10000130166,202\r\n10007936344,0\r\n20000000000,1\r\n30000000000,2")
    (tmp_path / "Annotations").mkdir()
    for name, xml in (("10000130166", XML), ("30000000000", XML), ("20000000000", "<annotation><a1><b/></a1>")):
        (tmp_path / f"Annotations/{name}.xml").write_text(xml)
    return FlickrSoundNet(tmp_path)


def test_flickr_s_list_without_header_and_last_line_end_is_read_and_faults_are_counted(flickr):
    official = flickr.read_split("test")
    assert official.clips["clip_id"].tolist() == ["10000130166", "30000000000"]
    boxes = [list(box) for box in official.clips["boxes"].tolist()[0]]
    assert boxes == [[0.25, 0, 0.5, 1], [0, 0, 0.125, 0.25]], "shares of 256 pixels; the name before them is none"
    assert official.malformed[0] == "flickr_test.csv:2: no Annotations/10007936344.xml"
    assert official.malformed[1].startswith("flickr_test.csv:3: Annotations/20000000000.xml: ")


@pytest.mark.parametrize(
    "xml",
    [
        XML.replace("64</xmin>", "left</xmin>"),
        XML.replace("<xmin>64</xmin>", ""),
        XML.replace("bbox>", "box>"),
        "<annotation/>",
    ],
)
def test_an_annotation_without_boxes_of_four_numbers_is_a_fault_of_its_clip(flickr, xml: str):
    (flickr.root / "Annotations/10000130166.xml").write_text(xml)
    official = flickr.read_split("test")
    assert official.clips["clip_id"].tolist() == ["30000000000"]
    assert official.malformed[0].startswith("flickr_test.csv:1: Annotations/10000130166.xml: ")


@pytest.mark.parametrize("source", [VGGSS, FlickrSoundNet])
def test_in_the_sample_the_box_is_around_the_one_that_is_heard_and_mostly_off_the_middle(
    source, tmp_path: Path, make_sample
):
    """Above the floor, a picture without the thing differs from the true one inside of the box and nowhere else."""
    make_sample(tmp_path, [source.name], {source.name: {"test": 8}})
    image = {"image": {"kind": "image", "column": "frame", "size": 96}}
    manifest = clips(tmp_path, source, "test", Inputs(audio=None, video=None, streams=image))
    scenes = [sounding(key) for key in keys(0, source.name, {"test": 8})]
    in_the_middle = 0
    for scene, boxes, path in zip(scenes, manifest.table["boxes"], manifest.table["image_path"], strict=True):
        there, gone = (render(each)[MIDDLE].astype(int) for each in (scene, replace(scene, actors=())))
        assert np.abs(read_picture(path, SIZE) - there).mean() < 3, "the picture is that of the scene"
        y, x = np.nonzero((there != gone).any(2)[:FLOOR])
        people, slack = (1, 1) if source is VGGSS else (3, 8)  # three people are not exact
        left, top, right, bottom = SIZE * np.mean([list(each) for each in boxes][:people], 0)
        assert left - slack <= x.min() and x.max() <= right + slack and top - slack <= y.min()
        assert (x.max() - x.min()) > 0.6 * (right - left) and y.max() <= bottom + slack
        in_the_middle += bool(left < SIZE / 2 < right and top < SIZE / 2 < bottom)
    assert in_the_middle <= 3


def test_what_is_silent_is_drawn_and_not_heard():
    key = next(keys(0, "vgg_ss", {"test": 1}))
    scene = sounding(key)
    alone = replace(scene, silent=())
    np.testing.assert_array_equal(sound.render(scene), sound.render(alone))
    assert (render(scene) != render(alone)).mean() > 0.01
