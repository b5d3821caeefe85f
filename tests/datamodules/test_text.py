"""Tokenizers against gensim, BERT's and CLIP's rules as they are published."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sample.narration import VOCABULARY
from datamodules.source import DataError
from datamodules.streams.text import make_tokenizer, vectors
from datamodules.types import TextInputs

WORDS = ["the", "The", "don't", "cat", "</s>", "naïve", "New_York"]
VECTORS = np.random.default_rng(0).standard_normal((len(WORDS), 5)).astype(np.float32)


@pytest.fixture(params=["binary", "text", "gz"])
def word2vec(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Word vectors as gensim writes them."""
    keyed = KeyedVectors(5)
    keyed.add_vectors(WORDS, VECTORS)
    path = tmp_path / ("vectors.bin.gz" if request.param == "gz" else "vectors.bin")
    keyed.save_word2vec_format(str(path), binary=request.param != "text")
    return path


def ids(inputs: TextInputs, text: str) -> list[int]:
    tokens = make_tokenizer(inputs)(text)
    assert tokens.dtype == np.int64 and tokens.ndim == 1
    return tokens.tolist()


def test_words_of_the_sample_data_are_numbered_from_1() -> None:
    inputs = TextInputs("words")
    tokenizer = make_tokenizer(inputs)
    assert tokenizer.size == len(VOCABULARY) + 1
    assert ids(inputs, "  the, RED  xylophone bounce! ") == [1 + VOCABULARY.index(w) for w in ("the", "red", "bounce")]
    assert ids(inputs, "") == ids(inputs, "xylophone !?") == []


def test_words_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(b"salt\r\nDon't\r\n\r\nsalt\r\npepper\r\n")
    inputs = TextInputs("words", str(file), length=3)
    assert make_tokenizer(inputs).size == 4
    assert ids(inputs, "unknown DON'T Salt, pepper pepper") == [2, 1, 3]  # cut after unknown words are dropped


def test_word2vec_numbers_its_rows_and_minds_capitals(word2vec: Path) -> None:
    inputs = TextInputs("word2vec", str(word2vec))
    keyed = KeyedVectors(5)
    keyed.add_vectors(WORDS, VECTORS)
    assert ids(inputs, "The the CAT don't naïve cat") == [
        1 + keyed.key_to_index[word] for word in ("The", "the", "don't", "naïve", "cat")
    ]
    table = vectors(inputs)
    assert table.shape == (make_tokenizer(inputs).size, 5) and table.dtype == np.float32
    assert not table[0].any()
    np.testing.assert_allclose(table[ids(inputs, "don't")[0]], VECTORS[2], rtol=1e-6)


@given(st.lists(st.text("ab' c\né", min_size=1).map(lambda w: "".join(w.split())).filter(bool), min_size=1))
def test_word2vec_has_the_rows_that_gensim_has(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    """Words may stand there twice; the file has no newline after a vector, as GoogleNews."""
    path = tmp_path_factory.mktemp("w2v") / "vectors.bin"
    row = np.ones(3, np.float32).tobytes()
    path.write_bytes(f"{len(words)} 3\n".encode() + b"".join(w.encode() + b" " + row for w in words))
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=True)
    tokenizer = make_tokenizer(TextInputs("word2vec", str(path)))
    assert tokenizer.size == len(keyed.key_to_index) + 1 == len(vectors(TextInputs("word2vec", str(path))))
    for word in words:
        assert tokenizer._id(word) == keyed.key_to_index[word] + 1


def test_wordpiece_is_berts(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cafe", "un", "##aff", "##able", ",", "the", "]", "[", "sep"]
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(tokens) + "\n")
    inputs = TextInputs("wordpiece", str(file))
    assert make_tokenizer(inputs).size == len(tokens)
    # Longest piece first, lower case, accents off, signs apart, as BERT's README says.
    assert ids(inputs, "The Café, UNAFFABLE zebra") == [2, 9, 4, 8, 5, 6, 7, 1, 3]
    assert ids(TextInputs("wordpiece", str(file), length=4), "the cafe the cafe") == [2, 9, 4, 3]
    assert ids(inputs, "[SEP]") == [2, 11, 12, 10, 3]  # what somebody writes is no control token
    assert ids(inputs, " ") == []
    file.write_text("\n".join([*tokens[1:], "[PAD]"]))
    with pytest.raises(DataError, match=r"vocab\.txt.*\[PAD\] is token 12"):
        make_tokenizer(inputs)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress(b"#version: 0.2\na t</w>\nc at</w>\np h\nph o\n"))
    return path


def test_clip_merges_in_the_order_of_its_list(clip: Path) -> None:
    inputs = TextInputs("bpe", str(clip))
    tokenizer = make_tokenizer(inputs)
    start, end = 516 + 1, 517 + 1  # 256 bytes, 256 at the end of a word, 4 merges
    assert (tokenizer.size, tokenizer.shift) == (519, 1)
    a, cat, pho, t, o = 320, 513, 515, ord("t") - 33, ord("o") - 33  # `a</w>` is 320 in the real CLIP
    expected = [start, a + 1, pho + 1, t + 1, o + 256 + 1, cat + 1, end]
    assert ids(inputs, "A  photo\n cat ") == expected
    assert ids(TextInputs("bpe", str(clip), length=4), "a a a a a") == [start, 321, 321, end]
    assert ids(inputs, "!") == [start, 256 + 1, end]  # `!</w>`; and `!` itself, which is 0 in CLIP, is not padding here
    assert ids(inputs, "!a") == [start, 257, 321, end]
    assert ids(inputs, "&amp;amp;") == ids(inputs, "&")
    assert ids(inputs, "a1's") == [start, 321, 16 + 256 + 1, 6 + 1, ord("s") - 33 + 256 + 1, end]  # ' is byte 39 - 33
    assert ids(inputs, "é") == [start, *np.add([0xC3 - 174 + 94 + 12, 0xA9 - 161 + 94 + 256], 1), end]
    assert ids(inputs, "") == []


def hugging_face(path: Path, vocabulary: dict[str, int], padding: bool) -> TextInputs:
    pad = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    }
    path.write_text(
        json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": pad if padding else None,
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": {"type": "Whitespace"},
                "post_processor": None,
                "decoder": None,
                "model": {"type": "BPE", "vocab": vocabulary, "merges": [["a", "b"]]},
            }
        )
    )
    return TextInputs("bpe", str(path))


@pytest.mark.parametrize(
    ("vocabulary", "padding", "shift"),
    [
        ({"a": 0, "b": 1, "ab": 2}, False, 1),
        ({"x": 0, "a": 1, "b": 2, "ab": 3}, True, 0),
        ({"<pad>": 0, "a": 1, "b": 2, "ab": 3}, False, 0),
    ],
)
def test_tokens_of_a_tokenizer_json_are_never_padding(
    tmp_path: Path, vocabulary: dict[str, int], padding: bool, shift: int
) -> None:
    inputs = hugging_face(tmp_path / "tokenizer.json", vocabulary, padding)
    tokenizer = make_tokenizer(inputs)
    assert (tokenizer.shift, tokenizer.size) == (shift, len(vocabulary) + shift)
    assert ids(inputs, "ab a") == [vocabulary["ab"] + shift, vocabulary["a"] + shift]


def test_tokenizers_travel_to_workers(word2vec: Path, clip: Path) -> None:
    for inputs in (TextInputs(), TextInputs("word2vec", str(word2vec)), TextInputs("bpe", str(clip))):
        tokenizer = make_tokenizer(inputs)
        there = pickle.loads(pickle.dumps(tokenizer))
        assert tokenizer("The cat bounce").tolist() == there("The cat bounce").tolist() != []


@given(st.text(), st.integers(2, 12))
def test_ids_are_within_bounds(tmp_path_factory: pytest.TempPathFactory, text: str, length: int) -> None:
    path = tmp_path_factory.mktemp("clip") / "merges.txt.gz"
    path.write_bytes(gzip.compress(b"#\na t</w>\n"))
    for inputs in (TextInputs(length=length), TextInputs("bpe", str(path), length)):
        tokenizer = make_tokenizer(inputs)
        tokens = tokenizer(text)
        assert len(tokens) <= length and ((tokens > 0) & (tokens < tokenizer.size)).all()


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("words", b"\n \n", "no words"),
        ("words", b"two words\n", "'two words' is not one word"),
        ("words", b"\xff\xfe\x00", "one a line, UTF-8"),
        ("word2vec", b"the 0.1 0.2\n", "it begins with"),
        ("word2vec", b"", "it begins with"),
        ("word2vec", b"2 2\nthe " + bytes(8) + b"cat " + bytes(7), "it ends at word 2 of 2"),
        ("word2vec", b"2 2\nthe 1 2\ncat 1\n", "word 2 of 2 has 1 numbers instead of 2"),
        ("wordpiece", b"", r"no \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        ("bpe", b"{}", "tokenizer.json"),
        ("bpe", b"\x1f\x8bnot gzip", "bpe_simple_vocab"),
        # Without the time, which would be in the tests' names: they must not differ from process to process.
        ("bpe", gzip.compress(b"title\none two three\n", mtime=0), "two symbols"),
        ("bpe", gzip.compress(b"title\n", mtime=0), "two symbols"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, kind: str, content: bytes, message: str) -> None:
    file = tmp_path / "given.file"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        make_tokenizer(TextInputs(kind, str(file)))
    assert str(file) in str(error.value)


@pytest.mark.parametrize("kind", ["words", "word2vec", "wordpiece", "bpe"])
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"absent\.txt: there is no such file.*needs"):
        make_tokenizer(TextInputs(kind, str(tmp_path / "absent.txt")))
    if kind != "words":
        with pytest.raises(DataError, match=r"data\.inputs\.text\.file=FILE"):
            make_tokenizer(TextInputs(kind))


def test_other_tokenizers_have_no_vectors() -> None:
    with pytest.raises(DataError, match="no word vectors"):
        vectors(TextInputs("words"))
    with pytest.raises(DataError, match="there are words, word2vec, wordpiece, bpe"):
        make_tokenizer(TextInputs("sentencepiece"))
