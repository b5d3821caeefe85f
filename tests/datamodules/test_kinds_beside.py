"""Kinds of stream beside pictures and sound: each reads what its own file says, and counts what it cannot use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torchaudio.compliance.kaldi import fbank

from datamodules.errors import DataError
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.source.spans import span_lists
from datamodules.streams.known import streams_of
from datamodules.streams.pseudo_label import write_pseudo_labels
from datamodules.streams.text import make_tokenizer
from datamodules.types import AugmentConfig, TextInputs, WindowConfig
from tests.datamodules.made_dataset import Made, batch_of, clips_of, inputs_of, manifest_of
from tests.media_files import noise

SECONDS, RATE = 4.0, 8000
TWO_SAME = {"twice": WindowConfig(lies="same", count=2)}


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three sounds of 4 s, each sample a tenth of its second."""
    root = tmp_path_factory.mktemp("ramps")
    for name in ("a", "b", "c"):
        ramp = np.arange(int(SECONDS * RATE)) / RATE / 10
        wavfile.write(root / f"{name}.wav", RATE, ramp.astype(np.float32))
    return Made(root, {"clip_id": ["a", "b", "c"]})


def left_out(manifest) -> dict[str, int]:
    return manifest.excluded


# spoken_caption


@pytest.fixture
def spoken(tmp_path: Path) -> Made:
    """Captions of 1 and 3 s, others that cannot be used; the clips themselves have no media."""
    for name, seconds in (("one", 1.0), ("three", 3.0)):
        wavfile.write(tmp_path / f"{name}.wav", RATE, noise(seconds, RATE, seed=int(seconds))[0])
    (tmp_path / "bad.wav").write_bytes(b"RIFF and no more")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "three.wav").read_bytes()[:20000])
    wavfile.write(tmp_path / "silent.wav", RATE, np.zeros(RATE, np.float32))
    names = ["one", "three", "gone", "bad", "cut", "silent", ""]
    return Made(
        tmp_path, {"clip_id": [f"clip {name}" for name in names], "spoken_path": [n and f"{n}.wav" for n in names]}
    )


def test_a_spoken_caption_is_its_files_sound_from_the_start(spoken):
    caption = {"kind": "spoken_caption", "log_mel": None, "waveform": {"sample_rate": RATE, "seconds": 2.0}}
    batch = batch_of(spoken, inputs_of(caption=caption), rows=range(2))
    assert batch["caption"].shape == (2, 2 * RATE) and batch["caption_length"].tolist() == [RATE, 2 * RATE]
    for name, sound, length in zip(("one", "three"), batch["caption"], batch["caption_length"], strict=True):
        written = wavfile.read(spoken.root / f"{name}.wav")[1][: 2 * RATE]
        assert np.array_equal(sound[:length].numpy(), written) and not sound[length:].any()


def test_a_spoken_caption_may_be_log_mels(spoken):
    options = {"sample_rate": RATE, "frames": 250, "mel_bins": 40, "mean": 0.0, "std": 0.5}
    batch = batch_of(spoken, inputs_of(caption={"kind": "spoken_caption", "log_mel": options}), rows=range(2))
    assert batch["caption"].shape == (2, 1, 250, 40) and batch["caption_length"].tolist() == [98, 250]
    sound = torch.from_numpy(wavfile.read(spoken.root / "one.wav")[1].copy())[None]
    expected = fbank(
        sound - sound.mean(), htk_compat=True, sample_frequency=RATE, num_mel_bins=40, window_type="hanning", dither=0
    )
    torch.testing.assert_close(batch["caption"][0, 0, :98], expected, rtol=0, atol=2e-3)


def test_decibels_of_a_spoken_caption_are_below_its_loudest_even_where_that_is_cut_off(tmp_path):
    sound = noise(3.0, 16000)[0]
    sound[32000:] *= 4  # 12 dB
    wavfile.write(tmp_path / "x.wav", 16000, sound)
    source = Made(tmp_path, {"clip_id": ["x y"], "spoken_path": ["x.wav"]})
    options = {"kind": "decibel", "frames": 100, "mel_bins": 40, "mean": 0.0, "std": 0.5}
    both = [
        batch_of(source, inputs_of(caption={"kind": "spoken_caption", "log_mel": {**options, "reference": reference}}))
        for reference in ("clip", "source")
    ]
    difference = (both[0]["caption"] - both[1]["caption"])[0, 0, 5:90].median()
    assert 9 < difference < 15


def test_clips_without_a_sound_spoken_caption_are_counted_and_one_that_is_gone_since_is_replaced(spoken):
    inputs = inputs_of(TWO_SAME, caption={"kind": "spoken_caption", "window": "twice"})
    manifest = manifest_of(spoken, inputs)
    reasons = [f"spoken caption: {why}" for why in ("missing", "not media", "truncated", "silent")]
    assert left_out(manifest) == dict.fromkeys(["no spoken caption", *reasons], 1) and len(manifest) == 2
    clips = clips_of(manifest, inputs)
    (spoken.root / "three.wav").unlink()
    assert clips[ClipRef(1, EVALUATION)] == [] and clips[ClipRef(1, 0)][0]["clip_id"] == "clip one"


def test_a_spoken_caption_is_heard_in_one_way():
    for settings in ({"log_mel": None}, {"waveform": {}}):
        with pytest.raises(DataError, match=r"streams\.said: it is read as log_mel or as waveform"):
            streams_of(inputs_of(said={"kind": "spoken_caption", **settings}))


# timed_vectors


@pytest.fixture
def experts(tmp_path: Path) -> Made:
    """Words of two clips, one a second and one in spans out of order; each vector is its number."""
    vectors = np.arange(8, dtype=np.float32)[:, None].repeat(3, 1)
    np.savez(tmp_path / "a_speech.npz", features=vectors, times=np.arange(8) / 2)
    spans = np.array([[3.0, 3.5], [0.0, 1.0], [1.0, 3.25], [9.0, 9.5]])
    np.savez(tmp_path / "b_speech.npz", features=vectors[:4], times=spans)
    return Made(tmp_path, {"clip_id": ["a", "b", "none"]}, seconds=SECONDS)


def words(**settings) -> dict:
    return {"kind": "timed_vectors", "dim": 3, "length": 10, **settings}


def test_timed_vectors_are_those_of_the_stretch_and_times_are_counted_from_its_begin(experts):
    window = {"late": WindowConfig(lies="shifted", by=[1.0, 1.0])}
    batch = batch_of(experts, inputs_of(window, said=words(seconds=2.0, window="late")))
    assert batch["said_length"].tolist() == [4, 1]
    assert batch["said"][0, :5, 0].tolist() == [2, 3, 4, 5, 0] and batch["said"].shape == (2, 10, 3)
    assert batch["said_times"][0, :5].tolist() == [[0, 0], [0.5, 0.5], [1, 1], [1.5, 1.5], [0, 0]]
    assert batch["said"][1, 0, 0] == 2 and batch["said_times"][1, 0].tolist() == [0, 2.25]  # others touch it only


def test_spans_are_in_the_order_of_time_and_more_than_fit_are_cut_or_drawn(experts):
    assert batch_of(experts, inputs_of(said=words(length=3)))["said"][:, :, 0].tolist() == [[0, 1, 2], [1, 2, 0]]
    inputs = inputs_of(TWO_SAME, said=words(length=3, choice="drawn", seconds=SECONDS, window="twice"))
    drawn = [
        batch_of(experts, inputs, epoch, rows=[0])["said"][0, :, :, 0] for epoch in (0, 0, 1, EVALUATION, EVALUATION)
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(*drawn[0]) and torch.equal(drawn[3], drawn[4]) and torch.equal(*drawn[3])
    assert all((row.diff() > 0).all() for each in drawn for row in each)


def test_a_clip_without_an_expert_is_left_out_or_empty_and_never_another_clips(experts):
    assert left_out(manifest_of(experts, inputs_of(said=words()))) == {"no speech features": 1}
    batch = batch_of(experts, inputs_of(said=words(missing="empty")), epoch=0)
    assert batch["clip_id"] == ["a", "b", "none"] and batch["said_length"].tolist() == [8, 3, 0]
    assert not batch["said"][2].any() and not batch["said_times"][2].any()


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"features": np.ones((8, 3), np.float32), "times": np.arange(7)}, "wrong shape"),
        ({"features": np.ones((8, 3), np.float32)}, "unreadable"),
        ({"features": np.full((8, 3), np.nan, np.float32), "times": np.arange(8)}, "not finite"),
        ({"features": np.ones((8, 3), np.float32), "times": np.full(8, np.inf)}, "not finite"),
    ],
)
def test_timed_vectors_that_are_none_are_counted_by_what_is_wrong_with_them(experts, arrays, reason):
    np.savez(experts.root / "a_speech.npz", **arrays)
    manifest = manifest_of(experts, inputs_of(said=words()))
    assert left_out(manifest) == {"no speech features": 1, f"speech features: {reason}": 1}
    empty = manifest_of(experts, inputs_of(said=words(missing="empty")))
    assert left_out(empty) == {f"speech features: {reason}": 1} and list(empty.table["clip_id"]) == ["b", "none"]


def test_features_lie_in_a_folder_that_is_there(experts):
    for settings in (words(root="/nowhere"), {"kind": "flow", "root": "/nowhere"}):
        with pytest.raises(DataError, match=r"streams\.x\.root=/nowhere: there is no such folder"):
            manifest_of(experts, inputs_of(x=settings))


# question


def asked(root: Path) -> Made:
    questions = ["is the red square loud", "how many", " ", "which", "which"]
    answers = ["yes", "two", "two", "blue", None]
    return Made(root, {"clip_id": list("abcde"), "question": questions, "answer": answers}, seconds=SECONDS)


def test_a_question_is_its_tokens_and_the_place_of_its_answer(tmp_path):
    settings = {"kind": "question", "length": 8}
    inputs = inputs_of(asked={**settings, "answers": ["no", "yes", "two"]})
    reason = "an answer that is none of those to choose from"
    assert left_out(manifest_of(asked(tmp_path), inputs)) == {reason: 1, "no answer": 1, "no question": 1}
    batch = batch_of(asked(tmp_path), inputs)
    assert batch["asked"].shape == (2, 8) and batch["asked_answer"].tolist() == [1, 2]
    tokenizer = make_tokenizer(TextInputs(length=8))
    for ids, length, text in zip(
        batch["asked"], batch["asked_length"], ["is the red square loud", "how many"], strict=True
    ):
        assert np.array_equal(ids[:length], tokenizer(text)) and not ids[length:].any()
    source = asked(tmp_path)
    source.classes = ("two", "yes", "blue")
    assert batch_of(source, inputs_of(asked=settings))["asked_answer"].tolist() == [1, 0, 2]


def test_answers_are_different_ones(tmp_path):
    with pytest.raises(DataError, match=r"streams\.asked\.answers: 'yes' stands there twice"):
        manifest_of(asked(tmp_path), inputs_of(asked={"kind": "question", "answers": ["yes", "no", "yes"]}))


# offset


def test_an_offset_is_the_seconds_between_the_begins_of_what_is_read(ramps):
    windows = {
        "late": WindowConfig(lies="shifted", by=[0.1, 1.5]),
        "early": WindowConfig("late", "shifted", [0.2, 0.3], "before", 2),
    }
    sound = {"kind": "waveform", "sample_rate": RATE, "seconds": 1.0}
    inputs = inputs_of(
        windows,
        own=sound,
        late={**sound, "window": "late"},
        early={**sound, "window": "early"},
        to_late={"kind": "offset", "of": "late"},
        from_late={"kind": "offset", "window": "late"},
        to_early={"kind": "offset", "of": "early", "window": "early"},
        early_to_late={"kind": "offset", "of": "late", "window": "early"},
    )
    seen = set()
    for epoch in range(3):
        batch = batch_of(ramps, inputs, epoch)
        own, late, early = (batch[name][..., 0] * 10 for name in ("own", "late", "early"))
        close = {"rtol": 0, "atol": 2e-3}
        torch.testing.assert_close(batch["to_late"], late - own, **close)
        torch.testing.assert_close(batch["from_late"], own - late, **close)
        torch.testing.assert_close(batch["early_to_late"], late[:, None] - early, **close)
        assert batch["early_to_late"].shape == (3, 2) and not batch["to_early"].any()
        seen |= set(batch["to_late"].tolist())
    assert len(seen) == 9 and 0.1 <= min(seen) <= max(seen) <= 1.5


def test_windows_within_another_reach_all_of_it_and_never_past_it(ramps):
    windows = {"late": WindowConfig(lies="shifted", by=[0.5, 0.5]), "piece": WindowConfig("late", "within", count=3)}
    sound = {"kind": "waveform", "sample_rate": RATE, "seconds": 2.0}
    inputs = inputs_of(
        windows, own=sound, late={**sound, "window": "late"}, piece={**sound, "seconds": 0.5, "window": "piece"}
    )
    later = []
    for epoch in range(8):
        batch = batch_of(ramps, inputs, epoch)
        assert batch["piece"].shape == (3, 3, RATE // 2)
        later += ((batch["piece"][..., 0] - batch["late"][:, None, 0]) * 10).flatten().tolist()
    assert len({round(each, 2) for each in later}) > 48  # of 72, each by itself
    assert -0.01 < min(later) < 0.15 and 1.35 < max(later) < 1.51
    batch = batch_of(ramps, inputs)
    assert torch.equal(batch["piece"][:, 0], batch["piece"][:, 2]) and torch.equal(
        batch["piece"][:, 0], batch["late"][:, : RATE // 2]
    )


def test_without_other_windows_nothing_is_shifted(ramps):
    sound = {"kind": "waveform", "sample_rate": RATE, "seconds": 1.0}
    assert batch_of(ramps, inputs_of(own=sound, shift={"kind": "offset"}))["shift"].tolist() == [0.0] * 3


def test_an_offset_names_a_window_that_is_there_and_can_be_compared(ramps):
    windows = {"two": WindowConfig(count=2, lies="same"), "three": WindowConfig(count=3, lies="same")}
    for settings, why in (
        ({"of": "four"}, r"streams\.shift\.of=four: .* it has two, three"),
        ({"of": "two"}, "there are 2 such windows, and 1 of its own"),
        ({"of": "two", "window": "three"}, "there are 2 such windows, and 3 of three"),
    ):
        inputs = inputs_of(windows, own={"kind": "waveform", "seconds": 1.0}, shift={"kind": "offset", **settings})
        with pytest.raises(DataError, match=why):
            batch_of(ramps, inputs, rows=[0])


# labels_by_second


SPANNED = [
    [(0.0, 1.0, 0), (1.5, 2.5, 1)],
    [(3.25, 9.0, 2), (0.1, 0.2, 1), (0.15, 3.75, 0)],
    [],
]


def spanned(root: Path, spans=SPANNED) -> Made:
    return Made(root, {"clip_id": ["a", "b", "c"], "spans": span_lists(spans)}, seconds=SECONDS)


def labels(**settings) -> dict:
    return {"kind": "labels_by_second", "classes": 3, **settings}


def overlaps(spans: list[tuple[float, float, int]], begin: float, cells: int, cell: float) -> torch.Tensor:
    """[cells, 3] by looking at each millisecond."""
    found = torch.zeros(cells, 3)
    for number in range(cells):
        for millisecond in np.arange(begin + number * cell, begin + (number + 1) * cell, 0.001) + 0.0005:
            for start, end, label in spans:
                if start < millisecond < end and millisecond < SECONDS:
                    found[number, label] = 1
    return found


@pytest.mark.parametrize("cell", [1.0, 0.25])
def test_a_cell_has_the_classes_that_happen_in_it(ramps, cell):
    source = spanned(ramps.root)
    batch = batch_of(source, inputs_of(when=labels(seconds=5.0, cell=cell)))
    assert batch["when_length"].tolist() == [round(SECONDS / cell)] * 3
    for seen, spans in zip(batch["when"], SPANNED, strict=True):
        assert torch.equal(seen, overlaps(spans, 0.0, round(5 / cell), cell))


def test_labels_are_those_of_the_stretch_that_is_read(ramps):
    window = {"late": WindowConfig(lies="shifted", by=[0.2, 1.5])}
    sound = {"kind": "waveform", "sample_rate": RATE, "seconds": 2.0}
    inputs = inputs_of(window, sound={**sound, "window": "late"}, when=labels(seconds=2.0, cell=0.5, window="late"))
    batch = batch_of(spanned(ramps.root), inputs, epoch=1)
    for sound, seen, spans in zip(batch["sound"], batch["when"], SPANNED, strict=True):
        assert torch.equal(seen, overlaps(spans, float(sound[0]) * 10, 4, 0.5))


def test_labels_by_second_are_mixed_as_labels_are(ramps):
    inputs = inputs_of(sound={"kind": "waveform", "seconds": 1.0}, when=labels(seconds=4.0))
    source = spanned(ramps.root, [[(0.0, 4.0, 0)], [(0.0, 4.0, 1)], [(0.0, 4.0, 2)]])
    batch = batch_of(source, inputs, epoch=0, augment=AugmentConfig(mixup=1.0))
    torch.testing.assert_close(batch["when"], batch["label"][:, None].expand(3, 4, 3))
    assert (batch["label"].amax(1) < 1).any()


def test_clips_that_nobody_has_annotated_are_counted_and_other_classes_are_refused(ramps):
    inputs = inputs_of(when=labels())
    assert left_out(manifest_of(spanned(ramps.root, [[(0, 1, 0)], None, []]), inputs)) == {"no spans": 1}
    for source, settings, why in (
        (spanned(ramps.root), {"classes": 4}, r"streams\.when\.classes=4: Made has 3 classes"),
        (spanned(ramps.root), {"column": "labels"}, r"when\.column=labels: Made has no spans in this column"),
        (spanned(ramps.root, [[(0, 1, 3)], [], []]), {}, "spans has labels that are none of its 3 classes"),
    ):
        with pytest.raises(DataError, match=why):
            manifest_of(source, inputs_of(when=labels(**settings)))


# pseudo_label


def test_a_pseudo_label_is_that_of_the_clip_in_the_file_of_a_stage(ramps, tmp_path):
    file = tmp_path / "clusters" / "audio.parquet"
    write_pseudo_labels(file, ["c", "elsewhere", "a"], {"label": torch.tensor([7, 1, 3])})
    inputs = inputs_of(cluster={"kind": "pseudo_label", "file": str(file), "classes": 8})
    manifest = manifest_of(ramps, inputs)
    assert list(left_out(manifest).values()) == [1] and "label this split too" in next(iter(left_out(manifest)))
    batch = batch_of(ramps, inputs)
    assert dict(zip(batch["clip_id"], batch["cluster"].tolist(), strict=True)) == {"a": 3, "c": 7}
    assert batch["cluster"].dtype == torch.int64
    wanted = streams_of(inputs)["cluster"].wants()
    write_pseudo_labels(file, ["c", "a", "b"], {"label": [0, 1, 2]})
    assert streams_of(inputs)["cluster"].wants() != wanted
    assert batch_of(ramps, inputs)["cluster"].tolist() == [1, 2, 0]


def test_a_file_of_pseudo_labels_that_cannot_be_meant_is_refused(ramps, tmp_path):
    file = tmp_path / "labels.parquet"
    inputs = inputs_of(cluster={"kind": "pseudo_label", "file": str(file), "classes": 4})
    with pytest.raises(
        DataError, match=r"streams\.cluster\.file=.*there is no such file; run the stage that writes it"
    ):
        manifest_of(ramps, inputs)
    write_pseudo_labels(file, ["a", "a"], {"label": [1, 2]})
    with pytest.raises(DataError, match="the clip a has several labels"):
        manifest_of(ramps, inputs)
    write_pseudo_labels(file, ["a", "a", "b"], {"label": [1, 1, 2]})  # said twice
    assert len(manifest_of(ramps, inputs)) == 2
    write_pseudo_labels(file, ["a"], {"label": [4]})
    with pytest.raises(DataError, match=r"cluster\.classes=4: .* has labels from 4 to 4"):
        manifest_of(ramps, inputs)
    file.write_text("clip_id,label\na,1\n")
    with pytest.raises(DataError, match="no Parquet with the columns clip_id and label"):
        manifest_of(ramps, inputs)
