"""FSD50K's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.fsd50k import FSD50K
from datamodules.source import DataError

VOCABULARY = "0,Accelerating_and_revving_and_vroom,/m/07q2z82\n1,Bark,/m/05tny_\n2,Animal,/m/0jbk\n"
DEV, EVAL = "fname,labels,mids,split\n", "fname,labels,mids\n"


@pytest.fixture
def fsd50k(tmp_path: Path):
    def write(dev: str = DEV, eval_: str = EVAL, vocabulary: str = VOCABULARY) -> FSD50K:
        folder = tmp_path / "FSD50K.ground_truth"
        folder.mkdir(exist_ok=True)
        for name, content in (("dev", dev), ("eval", eval_), ("vocabulary", vocabulary)):
            (folder / f"{name}.csv").write_bytes(content.encode())
        return FSD50K(tmp_path)

    return write


def test_the_vocabulary_has_no_header(fsd50k):
    assert fsd50k().classes == ["Accelerating_and_revving_and_vroom", "Bark", "Animal"]


def test_single_labels_are_unquoted_and_several_are_quoted(fsd50k):
    rows = '64760,Bark,/m/05tny_,train\n16399,"Animal,Bark","/m/0jbk,/m/05tny_",val\n007,"Bark,Animal,Bark",m,train\n'
    source = fsd50k(DEV + rows)
    train, val = source.read_split("train"), source.read_split("val")
    assert train.clips["clip_id"].tolist() == ["64760", "007"] and val.clips["clip_id"].tolist() == ["16399"]
    assert train.clips["labels"].tolist() == [[1], [1, 2]] and val.clips["labels"].tolist() == [[1, 2]]
    assert train.malformed == val.malformed == []


def test_eval_has_no_split_column_and_names_may_have_a_suffix(fsd50k):
    official = fsd50k(eval_=EVAL + "00037.wav,Bark,/m/05tny_\n").read_split("eval")
    assert official.clips["clip_id"].tolist() == ["00037"] and official.stems[0].tolist() == ["00037"]
    assert official.clips["end"].tolist() == [float("inf")]


def test_byte_order_marks_and_crlf_are_read(fsd50k):
    crlf = {"dev": DEV + "1,Bark,m,train\n", "eval_": EVAL, "vocabulary": VOCABULARY}
    source = fsd50k(**{name: "\ufeff" + content.replace("\n", "\r\n") for name, content in crlf.items()})
    assert source.classes[2] == "Animal"
    assert source.read_split("train").clips["clip_id"].tolist() == ["1"]
    assert source.read_split("train").clips["labels"].tolist() == [[1]]


def test_malformed_rows_are_counted_with_their_lines_in_their_own_split(fsd50k):
    rows = (
        "1,Bark,m,train\n2,Unicorn,m,train\n3,,m,train\n4,Bark,m\n5,Bark,m,test\n1,Bark,m,train\n,Bark,m,train\n"
        '6,"Bark, Animal",m,train\n7,Unicorn,m,val\n'
    )
    source = fsd50k(DEV + rows)
    official = source.read_split("train")
    assert official.clips["clip_id"].tolist() == ["1"]
    assert [row.split(": ")[0] for row in official.malformed] == [f"dev.csv:{line}" for line in range(3, 10)]
    whys = ("'Unicorn'", "''", "3 fields instead of 4", "none of train, val: test", "twice", "no video id", "' Animal'")
    for why, row in zip(whys, official.malformed, strict=True):
        assert why in row
    assert [row.split(":")[1] for row in source.read_split("val").malformed] == ["5", "6", "10"]


@pytest.mark.parametrize(
    "vocabulary",
    [
        "",
        "index,label,mid\n" + VOCABULARY,
        "1,Bark,m\n0,Animal,m\n",
        VOCABULARY + "3,Cut_off",
        "0,Bark,m\n1,Bark,n\n",
    ],
)
def test_a_vocabulary_that_is_none_is_refused_with_its_name(fsd50k, vocabulary):
    with pytest.raises(DataError, match=r"vocabulary\.csv: (expected one row a class|the indices are|the label Bark)"):
        _ = fsd50k(vocabulary=vocabulary).classes


@pytest.mark.parametrize(("dev", "missing"), [("", "fname, labels, mids, split"), (EVAL + "1,Bark,m\n", "split")])
def test_a_missing_column_is_named_with_its_file(fsd50k, dev, missing):
    with pytest.raises(DataError, match=rf"dev\.csv: no column {missing};"):
        fsd50k(dev).read_split("train")


def test_a_quote_that_never_ends_is_an_error_and_not_a_crash(fsd50k):
    with pytest.raises(DataError, match=r"dev\.csv:\d+: field larger than field limit .* quote that never ends"):
        fsd50k(DEV + '1,"Bark,m,train\n' + "2,Bark,m,train\n" * 10_000).read_split("train")
