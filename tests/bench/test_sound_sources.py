"""Localising what sounds: numbers of the official code, and what it leaves open."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from bench.tasks import EvaluationError, evaluate, task_of
from bench.tasks.sound_sources import SIDE, MapPredictions, overlap, resized, truth
from datamodules.boards import Board, SoundSources
from datamodules.sample.world import generator
from datamodules.table import arrow
from datamodules.types import AudioInputs, Inputs
from datamodules.vgg_ss import VGGSS
from tests.datamodules.packs import clips

UNION = Board("b", "world", "none", "test", SoundSources(), "cIoU@0.5")
CONSENSUS = replace(UNION, task=SoundSources(truth="consensus"))
RECORDED = json.loads((Path(__file__).parent.parent / "golden/sound_sources.json").read_text())


def some(boxes: list, maps: np.ndarray) -> MapPredictions:
    names = [f"{i:03}" for i in range(len(maps))]
    return MapPredictions(names, np.zeros((len(maps), 0), np.float32), {"av": maps}, boxes=boxes)


def drawn(name: str) -> np.ndarray:
    """The map of a clip that was recorded: noise, higher by 1 about where an object is."""
    about = RECORDED["maps"][name]
    map_HW = generator("sound sources", name).random(about["size"])
    top, bottom, left, right = about["bump"]
    map_HW[top:bottom, left:right] += 1
    return map_HW.astype(np.float32)


RULES: list[tuple[str, Literal["", "consensus"]]] = [("vggss", ""), ("flickr", "consensus")]


@pytest.mark.parametrize(("file", "rule"), RULES)
def test_ciou_is_that_of_the_official_code(file: str, rule: Literal["", "consensus"]):
    """Maps of three sizes, and boxes as in both files, some of them beyond the picture."""
    of_file = {name: about for name, about in RECORDED["maps"].items() if about["rule"] == file}
    for name, about in of_file.items():
        object_HW = truth(about["boxes"], rule)
        assert object_HW.sum() == about["truth"]
        assert overlap(resized(drawn(name)), object_HW)[0] == pytest.approx(about["ciou"], abs=1e-4)
    sizes = sorted({tuple(about["size"]) for about in of_file.values()})
    found = {"cIoU@0.5": 0.0, "AUC_cIoU": 0.0}
    for size in sizes:
        names = [name for name, about in of_file.items() if tuple(about["size"]) == size]
        given = some([of_file[name]["boxes"] for name in names], np.stack([drawn(name) for name in names]))
        metrics = evaluate(replace(UNION, task=SoundSources(rule)), "av", given).metrics
        for metric in found:
            found[metric] += metrics[metric].value * len(names) / len(of_file)
    assert found == pytest.approx(RECORDED[file])


LEFT = [[0.0, 0.0, 0.5, 1.0]]


def of(given: MapPredictions, board: Board = UNION) -> dict[str, float]:
    return {name: metric.value for name, metric in evaluate(board, "av", given).metrics.items()}


def test_a_map_that_is_right_finds_all_and_one_that_is_wrong_nothing():
    right = np.tile(-np.arange(SIDE, dtype=np.float32), (SIDE, 1))
    found = of(some([LEFT] * 2, np.stack([right] * 2)))
    assert found == pytest.approx({"cIoU@0.5": 1, "AUC_cIoU": 0.975, "peak": 1})  # all thresholds but 1
    wrong = of(some([LEFT] * 2, np.stack([right[:, ::-1]] * 2)))
    assert wrong == pytest.approx({"cIoU@0.5": 0, "AUC_cIoU": 0.025, "peak": 0})


def test_a_map_that_is_the_same_everywhere_finds_nothing_and_is_counted():
    """The official code takes the whole picture, a success where the object is more than half of it."""
    large = [[0.0, 0.0, 1.0, 0.9]]
    given = some([large, LEFT], np.stack([np.full((3, 3), 2.0), np.eye(3)]).astype(np.float32))
    assert of(given)["cIoU@0.5"] == 0
    assert evaluate(UNION, "av", given).notes == {"maps_that_are_the_same_everywhere": 1}


def test_a_map_whose_upper_half_is_a_plateau_keeps_it():
    """More than half of the pixels are as high as any: none is above the median."""
    map_HW = np.ones((SIDE, SIDE))
    map_HW[:, 0] = 0
    whole = truth([[0, 0, 1, 1]], "")
    assert overlap(map_HW, whole) == (pytest.approx(1 - 1 / SIDE), 1.0)


def test_empty_boxes_are_no_object_which_is_not_found_and_counted():
    given = some([[[0.3, 1.0, 0.7, 1.0]], LEFT], np.stack([np.eye(3)] * 2).astype(np.float32))
    found = evaluate(UNION, "av", given)
    assert found.notes == {"clips_without_an_object": 1} and found.n == 2
    assert found.metrics["AUC_cIoU"].value < 0.6


def test_the_peak_counts_where_two_agree_and_by_the_share_of_pixels_that_are_highest():
    one_of_three = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0]]
    corner = np.zeros((1, SIDE, SIDE), np.float32)
    corner[0, 0, 0] = 1
    both = corner.copy()
    both[0, -1, -1] = 1
    assert [of(some([one_of_three], map_1HW), CONSENSUS)["peak"] for map_1HW in (corner, both)] == [0, 0.5]
    assert of(some([one_of_three], corner), UNION)["peak"] == 1


def test_chance_is_the_middle_of_the_picture():
    middle, corner = [[0.4, 0.4, 0.6, 0.6]], [[0.0, 0.0, 0.3, 0.3]]
    maps = np.stack([np.eye(5)] * 4).astype(np.float32)
    chance = evaluate(UNION, "av", some([middle, corner, corner, corner], maps)).chance
    assert chance["peak"] == 0.25 and chance["cIoU@0.5"] == 0
    disc = [[0.1, 0.1, 0.9, 0.9]]
    assert evaluate(UNION, "av", some([disc] * 4, maps)).chance["cIoU@0.5"] == 1


def test_what_is_no_map_and_clips_without_boxes_are_refused():
    given = some([LEFT] * 2, np.zeros((2, 3, 3), np.float32))
    with pytest.raises(EvaluationError, match=r"maps \(2, 9\) of 'av' for 2 clips; expected \[N, H, W\]"):
        evaluate(UNION, "av", replace(given, scores={"av": np.zeros((2, 9))}))
    with pytest.raises(EvaluationError, match="boxes of 0 of 2 clips"):
        evaluate(UNION, "av", MapPredictions(given.clip_id, given.target, given.scores))


def test_boxes_are_those_of_the_clips_whatever_their_order(tmp_path: Path, make_sample):
    make_sample(tmp_path, ["vgg_ss"], {"vgg_ss": {"test": 4}})
    manifest = clips(tmp_path, VGGSS, "test", Inputs(audio=AudioInputs(), video=None))
    ids = manifest.table["clip_id"].tolist()[::-1]
    given = MapPredictions(ids, np.zeros((4, 10), np.float32), {"av": np.zeros((4, 2, 2), np.float32)})
    found = task_of(VGGSS.boards[0]).described(given, manifest, "cosine")
    assert found.boxes == arrow(manifest.table["boxes"]).to_pylist()[::-1]
    assert len({str(boxes) for boxes in found.boxes}) == 4
