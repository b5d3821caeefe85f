"""Text -> token ids, by the tokenizer that a method's text branch was made with. Id 0 is only padding.

A tokenizer travels to the loader's workers, so it is small and picklable: of millions of word vectors it knows only
which word has which id. The vectors are for the method's embedding table, see `vectors`.
"""

from __future__ import annotations

import gzip
import html
import re
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np
import tokenizers
from gensim.models import KeyedVectors
from gensim.utils import open as open_any
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from datamodules.source import DataError
from datamodules.types import TextInputs

# fmt: off
SAMPLE_WORDS = [
    "and", "ball", "bar", "beat", "beeper", "bell", "black", "blow", "blue", "bounce", "buzzer", "chime", "cricket",
    "cross", "cyan", "diamond", "disc", "drum", "fan", "first", "gonna", "green", "grey", "here", "horn", "just",
    "lower", "magenta", "next", "now", "okay", "orange", "pluck", "press", "raise", "rattle", "red", "ring",
    "shake", "siren", "so", "spin", "square", "star", "start", "steam", "strike", "string", "the", "then", "tone",
    "triangle", "vent", "violet", "wake", "we", "whistle", "white", "with", "yellow",
]
# fmt: on
"""All words of the sample data, sorted: `sample.narration.VOCABULARY`, which nothing but the sample data imports."""
WORD = re.compile(r"[\w']+")
"""A word, as AVLnet, MCN and Everything at Once cut them (`youtube_dataloader.py`): apostrophes belong to it."""
READ_BYTES = 1 << 20


class Tokenizer(ABC):
    """Text -> ids.

    Attributes:
        name: the kind, as in `TextInputs.tokenizer`.
        size: ids there are, with the padding: the rows of an embedding table.
        length: tokens at most.
        shift: how much higher the ids are than in the tokenizer's file: row i of pretrained embeddings belongs to
            id i + shift.
    """

    name: str
    size: int
    length: int
    shift: int = 0

    def __call__(self, text: str) -> np.ndarray:
        """int64 [n] ids in 1..size - 1, n <= length; none where the text has no words that are known."""
        return np.array(self._ids(text)[: self.length], dtype=np.int64)

    @abstractmethod
    def _ids(self, text: str) -> list[int]:
        """The ids, of `length` tokens at least where there are as many."""


class WordTokenizer(Tokenizer):
    """One id a word, 1 + its place in the list; words that are not in it are dropped, and only then is cut.

    Words are looked up as they are written: capitals count, as in AVLnet. What it keeps of a word is a 64-bit hash,
    so that GoogleNews' three million take 36 MB a worker; that an unknown word passes for one of them has a chance
    of 1 in 6e12.

    Args:
        words: each once.
        name: of the tokenizer.
        length: tokens at most.
    """

    def __init__(self, words: Iterable[str], name: str, length: int):
        hashes = np.fromiter(map(_hash, words), np.uint64)
        order = np.argsort(hashes, kind="stable")
        self.name, self.length, self.size = name, length, len(hashes) + 1
        self._hashes, self._order = hashes[order], order.astype(np.int32)

    def _ids(self, text: str) -> list[int]:
        return [found for word in WORD.findall(text) if (found := self._id(word))]

    def _id(self, word: str) -> int:
        """The word's id, 0 if it is unknown."""
        wanted = _hash(word)
        at = int(np.searchsorted(self._hashes, np.uint64(wanted)))
        known = at < len(self._hashes) and int(self._hashes[at]) == wanted
        return int(self._order[at]) + 1 if known else 0


class UncasedWordTokenizer(WordTokenizer):
    """As `WordTokenizer`, of a list in lower case."""

    def _id(self, word: str) -> int:
        return super()._id(word.lower())


class SubwordTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's library, with the tokens that it puts around a text.

    Args:
        encoder: its ids are those of the file. It is changed: it pads no more and cuts at `length`, keeping the
            token at the end, if it has one.
        name: of the tokenizer.
        length: tokens at most, those around the text included.
        zero_is_padding: id 0 of the file is its padding; else all ids become one higher.
    """

    def __init__(self, encoder: tokenizers.Tokenizer, name: str, length: int, zero_is_padding: bool):
        encoder.no_padding()
        encoder.enable_truncation(length)
        self.name, self.length, self.shift = name, length, 0 if zero_is_padding else 1
        self.size = max(encoder.get_vocab(with_added_tokens=True).values()) + 1 + self.shift
        self._encoder = encoder

    def _ids(self, text: str) -> list[int]:
        encoding = self._encoder.encode(self._clean(text))
        return [i + self.shift for i in encoding.ids] if not all(encoding.special_tokens_mask) else []

    def _clean(self, text: str) -> str:
        return text


class ClipTokenizer(SubwordTokenizer):
    """CLIP's, whose text is cleaned first: HTML entities (twice, for `&amp;amp;`), blanks, capitals.

    In the place of ftfy, which repairs wrongly decoded text, it is Unicode's NFC, as in Hugging Face's port.
    """

    def _clean(self, text: str) -> str:
        text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
        return " ".join(text.split()).lower()


def make_tokenizer(inputs: TextInputs) -> Tokenizer:
    """The tokenizer of this kind, from its file.

    Raises:
        DataError: the file is missing, or not what the kind needs; or there is no such kind.
    """
    if inputs.tokenizer not in MAKERS:
        raise DataError(f"there is no tokenizer {inputs.tokenizer!r}; there are {', '.join(MAKERS)}")
    return MAKERS[inputs.tokenizer](inputs)


def vectors(inputs: TextInputs) -> np.ndarray:
    """The word vectors by token id, for a method's embedding table.

    They are read whole: GoogleNews takes 3.6 GB, and twice that for a moment.

    Returns:
        float32 [size, D]; row 0, the padding, is zero.

    Raises:
        DataError: as `make_tokenizer`, or the tokenizer has no vectors.
    """
    if inputs.tokenizer != "word2vec":
        raise DataError(f"the tokenizer {inputs.tokenizer} has no word vectors; word2vec has")
    path = _file(inputs, WORD2VEC)
    try:
        with open_any(path, "rb") as file:
            _, dim = _header(file)
            binary = not _is_text(file, dim)
        keyed = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    except BAD_FILE as error:
        raise _wrong(path, WORD2VEC, error) from error
    # gensim leaves rows of zeros at the end for words that stand there twice.
    table_VD = keyed.vectors[: len(keyed.key_to_index)]
    if not np.isfinite(table_VD).all():
        raise _wrong(path, WORD2VEC, "it has vectors that are not numbers")
    return np.concatenate([np.zeros((1, table_VD.shape[1]), np.float32), table_VD], dtype=np.float32)


WORDS = "a list of words, one a line, UTF-8"
WORD2VEC = "word vectors in word2vec's format, binary or text, that begin with the line `COUNT DIMENSIONS`"
WORDPIECE = "BERT's vocab.txt, one token a line, [PAD] first, with [UNK], [CLS] and [SEP]"
BPE = "a Hugging Face tokenizer.json, or CLIP's bpe_simple_vocab_16e6.txt.gz"
BAD_FILE = (OSError, ValueError, EOFError, zlib.error)
"""What reading a file in a wrong format raises; a UnicodeDecodeError is a ValueError."""


def _file(inputs: TextInputs, expected: str) -> Path:
    if inputs.file is None:
        raise DataError(
            f"the tokenizer {inputs.tokenizer} needs a file: name {expected} with data.inputs.text.file=FILE"
        )
    path = Path(inputs.file)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; the tokenizer {inputs.tokenizer} needs {expected}")
    return path


def _wrong(path: Path, expected: str, why: object) -> DataError:
    return DataError(f"{path}: {why}; expected {expected}")


def _lines(path: Path, expected: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except BAD_FILE as error:
        raise _wrong(path, expected, error) from error
    return lines[:-1] if not lines[-1] else lines


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _words(inputs: TextInputs) -> Tokenizer:
    """Capitals do not count, as lists are mostly in lower case; of a word that stands there twice the first counts."""
    if inputs.file is None:
        return UncasedWordTokenizer(SAMPLE_WORDS, "words", inputs.length)
    path = _file(inputs, WORDS)
    words = [word.lower() for line in _lines(path, WORDS) if (word := line.strip())]
    strange = next((word for word in words if not WORD.fullmatch(word)), None)
    if strange is not None:
        raise _wrong(path, WORDS, f"{strange!r} is not one word")
    if not words:
        raise _wrong(path, WORDS, "it has no words")
    return UncasedWordTokenizer(dict.fromkeys(words), "words", inputs.length)


def _word2vec(inputs: TextInputs) -> Tokenizer:
    """Only the words are kept; like gensim, of words that stand there twice only the first counts."""
    path = _file(inputs, WORD2VEC)
    try:
        with open_any(path, "rb") as file:
            count, dim = _header(file)
            words = _text_words(file, count, dim) if _is_text(file, dim) else _binary_words(file, count, dim)
            return WordTokenizer(dict.fromkeys(words), "word2vec", inputs.length)
    except BAD_FILE as error:
        raise _wrong(path, WORD2VEC, error) from error


def _header(file: IO[bytes]) -> tuple[int, int]:
    """(words, dimensions), from the first line."""
    line = file.readline(100)
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and int(field) for field in fields):
        raise ValueError(f"it begins with {line[:40]!r}")
    return int(fields[0]), int(fields[1])


def _is_text(file: IO[bytes], dim: int) -> bool:
    """Whether the next line is a word and `dim` numbers; the file stays where it was."""
    here = file.tell()
    fields = file.readline(READ_BYTES).split()
    file.seek(here)
    try:
        return len([float(field) for field in fields[1:]]) == dim
    except ValueError:
        return False


def _text_words(file: IO[bytes], count: int, dim: int) -> Iterator[str]:
    for number in range(count):
        fields = file.readline().rstrip().split(b" ")
        if len(fields) != dim + 1:
            raise ValueError(f"word {number + 1} of {count} has {len(fields) - 1} numbers instead of {dim}")
        yield fields[0].decode()


def _binary_words(file: IO[bytes], count: int, dim: int) -> Iterator[str]:
    """Each word ends at a blank, and 4 bytes a dimension follow; writers differ in whether a newline does."""
    chunk, at = b"", 0
    for number in range(count):
        while (space := chunk.find(b" ", at)) < 0 or space + 1 + 4 * dim > len(chunk):
            more = file.read(READ_BYTES)
            if not more:
                raise ValueError(f"it ends at word {number + 1} of {count}")
            chunk, at = chunk[at:] + more, 0
        yield chunk[at:space].lstrip(b"\n").decode()
        at = space + 1 + 4 * dim


def _wordpiece(inputs: TextInputs) -> Tokenizer:
    """bert-base-uncased's: lower case, accents off, [CLS] and [SEP] around the text."""
    path = _file(inputs, WORDPIECE)
    tokens = _lines(path, WORDPIECE)
    ids = {token: i for i, token in enumerate(tokens)}
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if token not in ids]
    if missing:
        raise _wrong(path, WORDPIECE, f"it has no {', '.join(missing)}")
    if ids["[PAD]"] != 0:
        raise _wrong(path, WORDPIECE, f"[PAD] is token {ids['[PAD]']}, and 0 is needed")
    encoder = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    encoder.normalizer = normalizers.BertNormalizer(lowercase=True)
    encoder.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    encoder.post_processor = _around("[CLS]", "[SEP]", ids)
    return SubwordTokenizer(encoder, "wordpiece", inputs.length, zero_is_padding=True)


def _around(first: str, last: str, ids: dict[str, int]) -> TemplateProcessing:
    return TemplateProcessing(single=[first, "$A", last], special_tokens=[(first, ids[first]), (last, ids[last])])


def _bpe(inputs: TextInputs) -> Tokenizer:
    path = _file(inputs, BPE)
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return _clip(path, inputs.length) if zipped else _hugging_face(path, inputs.length)


PADDING_NAMES = ("[PAD]", "<pad>")


def _hugging_face(path: Path, length: int) -> Tokenizer:
    """Of any model. Id 0 stays padding if the file pads with it, or calls it `[PAD]` or `<pad>`."""
    try:
        encoder = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        raise _wrong(path, BPE, error) from error
    if encoder.get_vocab_size() == 0:
        raise _wrong(path, BPE, "its vocabulary is empty")
    padding = encoder.padding or {}
    zero_is_padding = padding.get("pad_id") == 0 or encoder.id_to_token(0) in PADDING_NAMES
    return SubwordTokenizer(encoder, "bpe", length, zero_is_padding)


CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
CLIP_MERGES = 49152 - 256 - 2
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"


def _clip(path: Path, length: int) -> Tokenizer:
    """From CLIP's list of merges (openai/CLIP `simple_tokenizer.py`): a title, and two symbols a line.

    Ids: the 256 bytes, the 256 bytes at the end of a word, what each of the first 48,894 lines makes, and the start
    and the end of the text. Its id 0 is `!`, and so all are one higher here: "a photo of a cat" begins with 49407
    instead of 49406.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except BAD_FILE as error:
        raise _wrong(path, BPE, error) from error
    pairs = [line.split() for line in lines[1 : 1 + CLIP_MERGES] if line]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise _wrong(path, BPE, "its lines are not two symbols each")
    merges = [(first, second) for first, second in pairs]
    # The alphabet's order is that of GPT-2's table: printable bytes first, which are themselves.
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*symbols, *(s + "</w>" for s in symbols), *map("".join, merges), CLIP_START, CLIP_END]
    ids = {token: i for i, token in enumerate(tokens)}
    try:
        encoder = tokenizers.Tokenizer(models.BPE(ids, merges, end_of_word_suffix="</w>"))
    except Exception as error:  # as above: a merge of symbols that no earlier line makes
        raise _wrong(path, BPE, error) from error
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    encoder.add_special_tokens([AddedToken(token, special=True) for token in (CLIP_START, CLIP_END)])
    encoder.post_processor = _around(CLIP_START, CLIP_END, ids)
    return ClipTokenizer(encoder, "bpe", length, zero_is_padding=False)


MAKERS = {"words": _words, "word2vec": _word2vec, "wordpiece": _wordpiece, "bpe": _bpe}
