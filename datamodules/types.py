"""The types that pass between data, methods and the harness.

Nothing here imports torch, so that the configuration can be read and checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from datamodules.augmentation import AugmentConfig as AugmentConfig
from datamodules.frozen import Freezable

if TYPE_CHECKING:
    from torch import Tensor

Modality = Literal["a", "v", "t", "i", "av", "at", "ai", "vt", "vi", "ti", "avt", "avi", "ati", "vti", "avti"]
"""Modalities: any of audio, video, text and (still) image, in this order."""


@dataclass
class Around(Freezable):
    """How much is read around a second in which steps are to be found, in seconds of its video."""

    before: float = 0.0
    """Before the second begins."""
    after: float = 0.0
    """After it begins. Both 0 = as much as the inputs hold, with the second in the middle, cut at the video's ends."""
    at_ends: Literal["cut", "shift"] = "cut"
    """What of it would lie outside the video's whole seconds is left out, or all of it is read earlier or later."""


@dataclass
class AudioInputs(Freezable):
    """Sound as a method reads it: mono, as log-mel frames of 25 ms every 10 ms, or as librosa makes them."""

    kind: Literal["kaldi", "decibel", "librosa"] = "kaldi"
    """Kaldi-compatible log-mels; DAVEnet's: decibels below the loudest number, see `decibels.py`; or librosa's, of
    which the last settings speak, see `librosa_mel.py`."""
    reference: Literal["clip", "source"] = "clip"
    """Decibels: 0 dB is the loudest value of the sound that is read, or of all sound of its file, from whose
    spectrogram the clip's is cut (AVLnet, MCN and Everything at Once on whole videos)."""
    around: Around = field(default_factory=Around)

    sample_rate: int = 16000
    """Hz."""
    frames: int = 1024
    """Log-mel frames; longer sound is cut."""
    past_end: Literal["zeros", "repeat"] = "zeros"
    """Log-mel frames past the sound's end: `zeros`, before normalisation (AST, AudioMAE `dataset.py`), or `repeat`:
    the clip starts over (`sample_sequence` of DMVR, which MBT uses)."""
    mel_bins: int = 128
    mean: float = -4.2677393
    """Mean of the log-mel values; default: AudioSet's, from AST and AudioMAE (`dataset.py`)."""
    std: float = 4.5689974
    scale: float = 2.0
    """Values are normalised to `(x - mean) / (scale * std)`: 2 in AST, AudioMAE and MAViL, 1 in PSLA and UAVM."""
    window: Literal["hanning", "hamming"] = "hanning"
    """Window of the 25 ms frames; Hamming in MBT."""
    fft: int = 1024
    """librosa: samples of a frame, under Hann's window (`n_fft`)."""
    hop: int = 160
    """librosa: samples from one frame's centre to the next's (`hop_length`)."""
    samples: int = 0
    """librosa: samples of sound, with zeros past its end; 0 = up to the centre of the last of `frames`."""
    edges: Literal["reflect", "zeros"] = "reflect"
    """librosa: what lies before the first sample and after the last: the sound mirrored (before librosa 0.9, and
    torchaudio) or zeros (`pad_mode`)."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """librosa: Slaney's mel scale and triangles of equal area (librosa), or HTK's and of equal height (torchaudio)."""

    @property
    def seconds(self) -> float:
        """Seconds of sound that `frames` cover: 10 ms each, and 15 ms more for Kaldi's, which lie wholly within it."""
        if self.kind == "librosa":
            return (self.samples or (self.frames - 1) * self.hop) / self.sample_rate
        return self.frames * 0.010 + (0.015 if self.kind == "kaldi" else 0.0)


@dataclass
class VideoInputs(Freezable):
    """Frames as a method reads them: RGB, `size` x `size`, normalised."""

    frames: int = 8
    fps: float = 2.0
    size: int = 224
    """Pixels, height and width. Frames are resized to the square, without a crop (av-superb `expert.py`)."""
    train_size: int = 256
    """Pixels at which training frames leave the workers, before the random resized crop to `size`."""
    short_side: int = 0
    """Frames keep their shape: in evaluation their shorter side becomes so many pixels, and a square of `size` is cut
    out in the middle, or at the places of the board's `crops`; in training it becomes `train_size`, and a square of
    that is cut out anywhere along the longer side. 0 = they are resized to the square."""
    rand_augment: str = ""
    """RandAugment of training frames as timm writes it, `rand-m7-n4-mstd0.5-inc1` in XKD; see `rand_augment.py`."""
    past_end: Literal["repeat", "zeros", "nothing"] = "repeat"
    """Frames past the clip's end: `repeat`: the clip starts over (av-superb `expert.py`, DMVR); `zeros`: black ones;
    `nothing`: black ones too, but the batch's `video_length` says how many there are, and a stage that extracts stores
    zeros instead of the others' features (UAVM `src/dataloader_mm.py`)."""
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass
class TextInputs(Freezable):
    """Text as token ids, by the tokenizer of the method's text branch."""

    tokenizer: str = "words"
    """`words` (a list, one word a line), `word2vec` (vectors in word2vec's binary or text format), `wordpiece`
    (BERT's `vocab.txt`) or `bpe` (a Hugging Face `tokenizer.json`, or CLIP's `bpe_simple_vocab_16e6.txt.gz`)."""
    file: str | None = None
    """The tokenizer's file, which the user provides; none = the word list of the sample data."""
    length: int = 20
    """Tokens; longer text is cut, shorter is padded with id 0."""
    reads: Literal["captions", "titles"] = "captions"
    """`captions`: the dataset's own texts, or what is said in narrated videos. `titles`: the videos', by a table
    `titles.csv` (video_id,title) beside the official files; a clip without one has no words."""
    prompt: str = ""
    """What stands before a clip's words, if it has any."""
    candidates: int = 1
    """Of narrated videos: a clip's text and those next to it (5 in MIL-NCE), as `text` [B, candidates, L]."""


@dataclass
class FeatureInputs(Freezable):
    """Precomputed features of the pictures: a file per video and kind, `[T, D]`, joined into one vector per moment."""

    root: str | None = None
    """Folder below which the files lie, at any depth; none = the dataset's own folder."""
    kinds: list[str] = field(default_factory=lambda: ["2d", "3d"])
    """Joined in this order; a file is `<id>_<kind>.npz`, `<id>_<kind>.npy` or `.../<kind>/.../<id>.npy`."""
    rates: list[float] = field(default_factory=lambda: [1.0, 1.5])
    """Vectors per second of each kind; slower kinds are repeated (nearest) to the rate of the fastest."""
    dims: list[int] = field(default_factory=lambda: [2048, 2048])
    """Length of each kind's vectors."""
    frames: int = 15
    """Moments; longer clips are cut."""
    past_end: Literal["zeros", "repeat"] = "zeros"
    """Moments past the clip's end: `zeros`, or `repeat`: the clip starts over."""
    rows: Literal["through", "covering", "pooled"] = "through"
    """Rows of a file that belong to a window: from the one in which it begins to the one in which it ends (AVLnet);
    those that overlap it (Everything at Once in time); or those that `adaptive_max_pool1d` pools for it if the file is
    pooled to one row per second of the video, so that the rates play no part (MCN in time)."""
    around: Around = field(default_factory=Around)

    @property
    def seconds(self) -> float:
        """Seconds of a video that `frames` moments cover."""
        return self.frames / max(self.rates, default=1.0)


@dataclass
class WindowConfig(Freezable):
    """Where a further window of a clip lies, and how many of its kind there are.

    Random numbers are drawn anew for each clip and epoch; in evaluation `by` is its first number, and a window lies
    `after` rather than before.
    """

    to: str = ""
    """The window from which its place is counted; empty = the clip's own, the one that is read without this."""
    lies: Literal["same", "overlapping", "adjacent", "apart", "shifted", "within", "anywhere"] = "anywhere"
    """`same`: it begins with the other. `overlapping`: `by` is the share that they have in common. `adjacent`: one
    begins where the other ends. `apart`: `by` is the seconds between them. `shifted`: `by` is the seconds by which it
    begins later. `within`: anywhere in the other, each of several by itself. `anywhere`: drawn by itself, in the
    clip."""
    by: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """[least, most], drawn uniformly."""
    side: Literal["after", "before", "either"] = "after"
    """On which side of the other it lies."""
    count: int = 1
    """Windows, each counted from the one before it, unless they lie within or anywhere; a stream of several has one
    dimension more: [B, count, ...]."""


@dataclass
class RowsConfig(Freezable):
    """Other clips that are read beside a clip, and by which rule they are chosen."""

    which: Literal["neighbour", "fixed", "other_video", "same_video", "other_class", "same_class"] = "other_video"
    """`neighbour`: the clip before or after it in its video. `fixed`: the same clip of another video for everybody,
    whatever the seed: the next one in the order of the hashes of ids; where a clip cannot be used, no more changes than
    that the one after it stands in its places. The others are drawn uniformly from the clips of another video, of the
    same video (the clip itself left out), without a class in common, or with one (the clip itself left out)."""
    step: int = 1
    """Neighbours: how many clips later; negative ones are earlier. The next of `count` is as many later again."""
    count: int = 1
    """Clips; a stream of several has one dimension more: [B, count, ...]."""
    share: float = 1.0
    """Of clips that have others; in the place of the rest's stands the clip itself."""


@dataclass
class Inputs(Freezable):
    """What a method reads of a dataset; a modality that is None is not read."""

    audio: AudioInputs | None = field(default_factory=AudioInputs)
    video: VideoInputs | None = field(default_factory=VideoInputs)
    text: TextInputs | None = None
    features: FeatureInputs | None = None
    streams: dict[str, Any] = field(default_factory=dict)
    """Further streams, by name, which is their key in a batch: `kind`; `window` and `row` where they are not the clip's
    own; `augment`, what of `data.augment` is another for this stream; and the settings of the kind, in `options` those
    that are called as one of these. `python -m bench data streams` lists the kinds."""
    windows: dict[str, WindowConfig] = field(default_factory=dict)
    """Windows of a clip beside its own, by name."""
    grid: float = 0.0
    """Where clips have such windows, their own begins at a whole multiple of so many seconds from the clip's start; 0 =
    anywhere."""
    rows: dict[str, RowsConfig] = field(default_factory=dict)
    """Clips beside the clip, by name. Of them a batch has `<name>_id`, `<name>_key` and `<name>_label`; `<name>_own`,
    true where the clip itself stands in their place; and `<name>_there`, false where no clip fits the rule, or none
    that does can be read: its streams are zero then."""


@dataclass
class LoaderConfig(Freezable):
    """How clips are read. Only `train_windows` and the weighted draws change a result."""

    workers: int = -1
    """Processes that decode; -1 = one per core but one, at most 16; 0 = the training process itself."""
    cache_gb: float = 0.0
    """Memory (GiB per process) for decoded clips, so that small datasets are decoded once and not in each epoch."""
    train_windows: int = 0
    """Training cuts a clip at one of this many evenly spaced starts; 0 = anywhere, 1 = always at its start."""
    weighted_draws: int = 0
    """Clips drawn per epoch by class-balancing weights; -1 = as many as there are, 0 = each clip once."""
    weighted_replacement: bool = False
    """Whether weighted draws are with replacement, as `WeightedRandomSampler` draws in AST, PSLA and UAVM."""

    def draws(self, clips: int) -> int:
        """Clips drawn per epoch, out of `clips`."""
        if self.weighted_draws <= 0:
            return clips
        return self.weighted_draws if self.weighted_replacement else min(self.weighted_draws, clips)


@dataclass
class NarrationConfig(Freezable):
    """How training cuts clips out of narrated videos (HowTo100M)."""

    per_video: int = 1
    """Clips of each video in a batch; `batch_size` counts clips."""
    cut: Literal["captions", "windows", "mixed"] = "captions"
    """`captions`: what is shown while something is said. `windows`: anywhere, from a whole second on; captions are not
    even opened (AVLnet). `mixed`: anywhere, but the caption at its start, or else at its end, takes the window's place,
    and without one it has no text (Everything at Once)."""
    seconds: float = 10.0
    """Length of a window; a caption's clip is merged with its neighbours' until it is at least as long."""
    audio_shift: float = 0.0
    """Seconds by which the sound of a caption's clip is read later than its pictures, so that the text cannot be
    inferred from the sound; 4 in Everything at Once."""


@dataclass
class DataConfig(Freezable):
    """What is read from a dataset, and how."""

    root: str | None = None
    """The dataset's own folder; none = found under `data_root` by its name."""
    packed: str | None = None
    """Folder or fsspec URL of a pack of this dataset (`bench data pack`), read instead of its media files."""
    media: str | None = None
    """What media files with the bare id of a video are: `clips` (cut), `videos` (whole; a clip begins at its start) or
    `auto` (by their length); none = as is usual for the dataset. A file whose name has a time is always a cut clip."""
    train_labels_file: str | None = None
    """A file of labels for the training clips that replace the official ones, e.g. PSLA's enhanced label sets; clips
    that it does not list are left out. See `relabel.py`."""
    train_share: float = 1.0
    """Share of the training clips that are read, the same for all seeds: of each class, or of all where a clip may have
    several; a smaller share is part of a larger one. The other clips are left out. See `share.py`."""
    captions: Literal["each", "one"] = "each"
    """Training clips with several captions: each caption is a clip of its own, or an epoch has the clip once, with a
    random caption (AVLnet, Everything at Once: MSR-VTT)."""
    min_coverage: float = 0.85
    """Smallest share of its official clips on which a board is measured."""
    views: int = 0
    """Windows of a scored clip, evenly spaced, whose outputs are averaged; 0 = as many as the board says."""
    crops: int = 0
    """Squares of each window's pictures, beside each other along the longer side, whose outputs are averaged, too; 0 =
    as many as the board says."""
    inputs: Inputs = field(default_factory=Inputs)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    narration: NarrationConfig = field(default_factory=NarrationConfig)


FEATURE_KEYS: dict[str, Literal["audio_feat", "video_feat"]] = {"a": "audio_feat", "v": "video_feat"}
"""Modality -> key of its features in a batch."""


class Batch(TypedDict, total=False):
    """A batch of B clips as a method's steps see it, on the device; keys of modalities that are not read are absent."""

    clip_id: list[str]
    key: Tensor
    """[B] int64, from (seed, epoch, clip): the source of all randomness, see `keyed.uniform`."""
    audio: Tensor
    """[B, 1, frames, mels] float32, normalised log-mel; time first."""
    audio_length: Tensor
    """[B] int64 frames before the padding; 0 where a clip has no sound."""
    video: Tensor
    """[B, 3, T, H, W] float32, normalised RGB."""
    video_length: Tensor
    """[B] int64 frames before the black ones; only where `VideoInputs.past_end` is `nothing`."""
    text: Tensor
    """[B, L] int64 token ids, 0 after the end."""
    text_length: Tensor
    """[B] int64 tokens; 0 where a clip has no words."""
    video_feat: Tensor
    """[B, T, D] float32 precomputed features, zero after the end."""
    video_feat_length: Tensor
    """[B] int64 moments, 0 where there are none; absent for features that a stage of the method extracted, which all
    have the same length."""
    audio_feat: Tensor
    """[B, T, D] float32, features of the sound that a stage of the method extracted."""
    label: Tensor
    """[B, C] float32 in 0..1: multi-hot for tagging, one-hot for classification, mixed by mixup. Of a mixture by
    shares: in the classes of the stage's own dataset; a part that has others has them as `label_<part>`."""
    label_there: Tensor
    """[B] bool, of a mixture: whether a clip has a `label`, and of `label_<part>` `label_<part>_there`; it is zeros
    where not. Likewise of each stream of a mixture by shares: `audio_there`, ..."""
    part: Tensor
    """[B] int64, of a mixture: the place of the clip's dataset in `StageSpec.parts`."""
    part_name: str
    """Of a mixture whose batches are of one dataset: which this is of."""
    partner: Partner
    """What is mixed into extracted features; only in training, and if any clip of the batch is mixed."""


class Partner(TypedDict, total=False):
    """Features of other clips, which a method mixes into the batch's own at the point it chooses (`mix_in` of
    `mixing.py`); sound, pictures and labels are mixed already. M of the batch's clips have a partner."""

    place: Tensor
    """[M] int64, indices of the clips in the batch."""
    weight: Tensor
    """[M] float32, the weight of the partner."""
    audio_feat: Tensor
    """[M, T, D] float32."""
    video_feat: Tensor
    """[M, T, D] float32."""


class RawBatch(TypedDict, total=False):
    """What the workers return: read and decoded, but not yet features."""

    clip_id: list[str]
    key: Tensor
    audio: Tensor
    """[B, T] float32 in -1..1, zero-padded at the end; or [B, F, mels], cut out of the log-mels of a whole source."""
    audio_length: Tensor
    """[B] int64, samples or frames before the padding."""
    video: Tensor
    """[B, T, H, W, 3] uint8 RGB."""
    video_length: Tensor
    text: Tensor
    text_length: Tensor
    video_feat: Tensor
    video_feat_length: Tensor
    audio_feat: Tensor
    """These six as in `Batch`."""
    label: Tensor
    partner: RawBatch
    """The clips that are mixed into some of these, M of them; see `mixing.py`."""
    partner_place: Tensor
    """[M] int64, the places of these in the batch."""


Similarity = Literal["cosine", "dot"]
"""How retrieval compares two embeddings."""


Scale = Literal["logits", "probabilities"]
"""What a network's numbers for classes are, which matters where those of several networks are averaged."""


class Outputs(TypedDict, total=False):
    """What a method returns for evaluation, keyed by modality. A task says which of these it measures, or
    which other key (`bench.tasks.base.Task.outputs`)."""

    logits: dict[str, Tensor]
    """Modality -> [B, C], before sigmoid or softmax."""
    probabilities: dict[str, Tensor]
    """Instead of `logits`, for heads whose numbers are like probabilities but may leave 0..1: they are ranked and
    averaged as they are."""
    embedding: dict[str, Tensor]
    """Modality -> [B, D]; retrieval compares them by the stage's `similarity`."""
    correspondence: dict[str, Tensor]
    """Modality -> [B, 2] logits that the clip's picture belongs to its own sound, and to that of the clip beside it
    called `other`."""
    map: dict[str, Tensor]
    """Modality -> [B, H, W] of any size, how much each place of the picture makes the sound; only the order of a
    clip's places is measured."""
    features: Tensor
    """[B, T, D], from a stage that extracts."""
