"""`bench compare`: which records it takes, what it refuses, what it says of known differences."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import registry
from bench.cli import main
from bench.compare.methods import Compared, compare_methods
from bench.errors import UserError
from bench.records.archive import Record, new_record, write
from bench.run.results import write_predictions
from bench.tasks import Predictions, task_of
from bench.tasks.metrics import average_precision
from datamodules.boards import UnknownTask
from tests.bench.test_records import fields

BOARD = registry.board("vggsound")
NAMES = [f"kind {number}" for number in range(5)]


def predicted(seed: int, skill: float = 1.0, n: int = 400, taken: slice = slice(None)) -> Predictions:
    """Equal clips and labels for all seeds; the right class scores higher by `skill`."""
    target = np.eye(5)[np.random.default_rng(7).integers(5, size=n)]
    scores = np.random.default_rng(seed).normal(size=(n, 5)) + skill * target
    whole = Predictions(np.array([f"clip{i:04}" for i in range(n)]), target, {"av": scores.astype(np.float32)})
    return replace(whole.take(np.arange(n)[taken]), classes=NAMES)


def put(folder: Path, method: str, predictions: Predictions, **changes: Any) -> Record:
    """A record with its predictions, as a run leaves them."""
    known = {"method": method, "protocol": BOARD.protocol(), "identity": f"{method}{changes.get('seed', 0)}", **changes}
    run = folder / "runs" / method / f"finetune-{known['identity']}"
    hash = write_predictions(predictions, run / "predictions.parquet")
    record = new_record(**fields(**known, predictions_sha256=hash))
    write(record, folder / "leaderboards" / "sample" / "results")
    return record


def compared(folder: Path, before: str, after: str, seed: int | None = None) -> Compared:
    return compare_methods(before, after, "sample/vggsound", folder / "leaderboards", folder / "runs", seed)


def test_the_common_clips_are_compared_and_the_classes_that_gain_are_named(tmp_path: Path, capsys):
    before, after = predicted(1, skill=0.5, taken=slice(0, 390)), predicted(2, skill=2.0, taken=slice(10, 400))
    put(tmp_path, "mavil", before)
    put(tmp_path, "uavm", after)
    found = compared(tmp_path, "mavil", "uavm")
    difference = found.comparison.differences["top1"]
    right = [
        (side.scores["av"].argmax(1) == side.target.argmax(1))
        for side in (before.take(np.arange(10, 390)), after.take(np.arange(380)))
    ]
    assert found.comparison.n == 380
    assert (difference.before, difference.after) == pytest.approx([side.mean() for side in right])
    assert difference.low > 0 and difference.p < 0.05
    label = after.take(np.arange(380)).target.argmax(1)
    assert [(name, pytest.approx(a), pytest.approx(b)) for name, a, b in found.classes] == [
        (name, *(side[label == number].mean() for side in right)) for number, name in enumerate(NAMES)
    ]
    places = ["--leaderboards", str(tmp_path / "leaderboards"), "--runs", str(tmp_path / "runs")]
    assert main(["compare", "mavil", "uavm", "--board", "sample/vggsound", *places]) == 0
    printed = capsys.readouterr().out
    assert "on the 380 clips that both were measured on (rows of each: 390 and 390)" in printed
    assert "B is better" in printed and "classes that gain most: kind" in printed


def test_a_tagging_board_compares_average_precisions():
    from bench.compare.methods import Side, per_class

    board = registry.board("audioset-20k")
    sides = [Side((), predicted(seed, taken=part)) for seed, part in ((1, slice(0, 300)), (2, slice(100, 400)))]
    found = per_class(task_of(board), sides, ("av", "av"))
    mine = sides[0].predictions.take(np.arange(100, 300))
    expected = average_precision(mine.target, mine.scores["av"])
    assert [before for _, before, _ in found] == pytest.approx(expected)


def test_the_seed_is_one_that_both_have(tmp_path: Path):
    for method, seeds in (("mavil", (0, 1, 2)), ("uavm", (1, 2))):
        for seed in seeds:
            put(tmp_path, method, predicted(seed), seed=seed)
    assert [side.records[0].seed for side in _sides(compared(tmp_path, "mavil", "uavm"))] == [1, 1]
    assert [side.records[0].seed for side in _sides(compared(tmp_path, "mavil", "uavm", seed=2))] == [2, 2]
    with pytest.raises(UserError, match="uavm finetune has no seed 0; there are: 1, 2"):
        compared(tmp_path, "mavil", "uavm", seed=0)


def _sides(found: Compared):
    return found.before, found.after


def test_the_folds_of_a_seed_are_taken_together(tmp_path: Path):
    for method, skill in (("mavil", 1.0), ("uavm", 1.5)):
        for fold in (0, 1):
            part = predicted(3, skill=skill, taken=slice(200 * fold, 200 * fold + 200))
            put(tmp_path, method, part, fold=f"fold{fold + 1}", identity=f"{method}{fold}")
    assert compared(tmp_path, "mavil", "uavm").comparison.n == 400


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"views": 4}, "views: 1 and 4"),
        ({"version": 2}, "version: 1 and 2"),
        ({"per_class": 5}, "per_class: None and 5"),
    ],
)
def test_other_protocols_are_refused_with_the_field(tmp_path: Path, change, field):
    put(tmp_path, "mavil", predicted(1))
    put(tmp_path, "uavm", predicted(2), protocol={**BOARD.protocol(), **change})
    with pytest.raises(UserError, match=f"different protocols, which differ in {field}"):
        compared(tmp_path, "mavil", "uavm")


def test_what_is_not_there_or_ambiguous_is_refused(tmp_path: Path):
    record = put(tmp_path, "mavil", predicted(1))
    other = put(tmp_path, "mavil", predicted(2), stage="finetune_a", identity="other")
    with pytest.raises(UserError, match="no such row of sample/vggsound: 'mavli'.*mavil/finetune/av"):
        compared(tmp_path, "mavli", "mavil/finetune")
    with pytest.raises(UserError, match="mavil is several rows of sample/vggsound") as error:
        compared(tmp_path, "mavil", "mavil/finetune")
    assert all(f"mavil/{each.stage}/av (tiny): {each.id}" in str(error.value) for each in (record, other))
    assert compared(tmp_path, record.id, "mavil/finetune_a/av").comparison.n == 400
    (path,) = (tmp_path / "runs" / "mavil").glob("*-other/predictions.parquet")
    path.write_bytes(b"others")
    with pytest.raises(UserError, match=f"is not what {other.id} was made from"):
        compared(tmp_path, record.id, other.id)
    path.unlink()
    with pytest.raises(UserError, match="name the folder of its runs with --runs, or repeat it"):
        compared(tmp_path, record.id, other.id)


def test_a_clip_that_two_official_splits_score_is_drawn_once_with_both_of_its_scores(tmp_path: Path):
    """So the difference is as uncertain as that of one split with the same clips, and not by sqrt(2) less."""
    board = registry.board("hmdb51")
    for method, skill in (("mavil", 1.0), ("uavm", 1.5)):
        for fold in ("fold1", "fold2"):
            about = {"fold": fold, "board": "hmdb51", "protocol": board.protocol(), "identity": f"{method}{fold}"}
            put(tmp_path, method, predicted(3, skill), **about)
        put(tmp_path, method, predicted(3, skill), identity=method)
    folders = (tmp_path / "leaderboards", tmp_path / "runs")
    both = compare_methods("mavil", "uavm", "sample/hmdb51", *folders).comparison
    one = compared(tmp_path, "mavil", "uavm").comparison
    assert both.n == one.n == 400
    for name in ("top1", "top5"):
        assert both.differences[name].change == pytest.approx(one.differences[name].change)
        assert both.differences[name].low == pytest.approx(one.differences[name].low)


FOLDS = replace(BOARD, folds=2).protocol()


def folded(folder: Path, method: str, epochs: int, folds: tuple[int, ...] = (1, 2), skill: float = 1.0, **changes: Any):
    """Records of the folds of a configuration, each on its half of the clips."""
    return [
        put(
            folder, method, predicted(3, skill=skill, taken=slice(200 * fold - 200, 200 * fold)), fold=f"fold{fold}",
            identity=f"{method}{epochs}{fold}", settings={"stages.finetune.epochs": epochs},
            **{"protocol": FOLDS, **changes},
        )
        for fold in folds
    ]  # fmt: skip


def test_rows_of_other_settings_are_listed_and_a_record_s_id_names_all_folds_of_its_own(tmp_path: Path):
    """The newest record of each fold would be that of `epochs=4` for the first, and of `epochs=2` for the second."""
    two = folded(tmp_path, "mavil", 2)
    four = folded(tmp_path, "mavil", 4, folds=(1,), created=datetime(2100, 1, 1, tzinfo=UTC))
    folded(tmp_path, "uavm", 2)
    with pytest.raises(UserError, match="mavil is several rows of sample/vggsound; name one by a record's id") as error:
        compared(tmp_path, "mavil", "uavm")
    assert any(f"mavil/finetune/av (tiny) epochs=2: {record.id}" in str(error.value) for record in two)
    assert f"mavil/finetune/av (tiny) epochs=4: {four[0].id}" in str(error.value)
    for record in two:
        found = compared(tmp_path, record.id, "uavm")
        assert [each.id for each in found.before.records] == [each.id for each in two] and found.comparison.n == 400
    assert compared(tmp_path, four[0].id, "uavm").comparison.n == 200


def test_two_rows_of_one_method_are_distinguished_by_their_settings(tmp_path: Path):
    two, four = (folded(tmp_path, "mavil", epochs) for epochs in (2, 4))
    found = compared(tmp_path, two[0].id, four[0].id)
    assert [side.name for side in _sides(found)] == [f"mavil finetune epochs={n} av, tiny, seed 0" for n in (2, 4)]


def test_a_fold_that_another_protocol_measured_is_refused(tmp_path: Path):
    folded(tmp_path, "uavm", 2)
    folded(tmp_path, "mavil", 2, folds=(1,))
    later = datetime(2100, 1, 1, tzinfo=UTC)
    folded(tmp_path, "mavil", 2, folds=(2,), protocol={**FOLDS, "version": 2}, created=later)
    for sides in (("mavil", "uavm"), ("uavm", "mavil")):
        with pytest.raises(UserError, match="different protocols, which differ in version"):
            compared(tmp_path, *sides)


def test_a_record_s_id_names_its_seed_too(tmp_path: Path):
    records = [put(tmp_path, method, predicted(seed), seed=seed) for method in ("mavil", "uavm") for seed in (0, 1)]
    assert [side.records[0].seed for side in _sides(compared(tmp_path, records[1].id, "uavm"))] == [1, 1]
    assert [side.records[0].seed for side in _sides(compared(tmp_path, records[1].id, records[2].id))] == [1, 0]
    assert [side.records[0].seed for side in _sides(compared(tmp_path, records[1].id, "uavm", seed=0))] == [0, 0]


def test_a_board_is_known_from_its_records_where_its_package_is_not_installed(tmp_path: Path):
    gone = replace(BOARD, name="gone")
    for method in ("mavil", "uavm"):
        put(tmp_path, method, predicted(1), board="gone", protocol=gone.protocol(), board_definition=gone.definition())
    folders = (tmp_path / "leaderboards", tmp_path / "runs")
    assert compare_methods("mavil", "uavm", "sample/gone", *folders).comparison.n == 400
    with pytest.raises(UserError, match="no such board: 'gnoe'. Did you mean 'gone'"):
        compare_methods("mavil", "uavm", "sample/gnoe", *folders)


def test_a_board_of_a_task_that_is_not_known_here_is_not_compared(tmp_path: Path):
    gone = replace(BOARD, name="gone", task=UnknownTask("theirs"))
    put(tmp_path, "mavil", predicted(1), board="gone", protocol=gone.protocol(), board_definition=gone.definition())
    with pytest.raises(UserError, match="its task 'theirs' is not known here"):
        compare_methods("mavil", "mavil", "sample/gone", tmp_path / "leaderboards", tmp_path / "runs")
