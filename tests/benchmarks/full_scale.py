"""How long the manifests of whole datasets take, and how much memory: made-up lists in the official formats.

    python tests/benchmarks/full_scale.py audioset    # 2,084,320 clips, each with a file that was checked before
    python tests/benchmarks/full_scale.py howto100m   # 1,238,911 videos, 136 million captions (11 GB of JSON)

Writes into a folder (`--folder`, kept for the next time), then measures in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path

import numpy as np

from datamodules.audioset import AudioSet
from datamodules.howto100m import HowTo100M
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import CHECK_VERSION, Checks, Judgement, _stamps
from datamodules.manifest.media_index import index_media
from datamodules.types import DataConfig, FeatureInputs, Inputs, LoaderConfig, TextInputs

ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", dtype="S1")
WORDS = "so now take the pan put it on a stove then add some oil and stir".split()  # noqa: SIM905


def ids(count: int, seed: int) -> list[str]:
    """Distinct made-up YouTube ids: the last four characters count."""
    rng = np.random.default_rng(seed)
    letters = ALPHABET[rng.integers(0, 64, (count, 11))]
    number = np.arange(count)
    for place in range(4):
        letters[:, 10 - place] = ALPHABET[number % 64]
        number = number // 64
    return letters.view("S11").ravel().astype(str).tolist()


def make_audioset(root: Path) -> None:
    """The three lists and, for each clip, a link to one file in folders of 50,000, as PANNs downloads them."""
    rng = np.random.default_rng(0)
    mids = [f"/m/0{i:05x}" for i in range(527)]
    rows = "".join(f'{i},{mid},"Class {i}, made up"\n' for i, mid in enumerate(mids))
    root.mkdir(parents=True)
    (root / "class_labels_indices.csv").write_text("index,mid,display_name\n" + rows)
    for seed, (split, count) in enumerate(AudioSet.sizes.items()):
        stem = {"eval": "eval", "balanced": "balanced_train", "unbalanced": "unbalanced_train"}[split]
        labels, starts = rng.integers(0, 527, (count, 3)), 10 * rng.integers(0, 60, count)
        several = rng.integers(1, 4, count)
        with (root / f"{stem}_segments.csv").open("w") as file:
            file.write("# Segments csv, made up\n# num_ytids=0\n# YTID, start_seconds, end_seconds, positive_labels\n")
            for i, id_ in enumerate(ids(count, seed)):
                names = ",".join(mids[k] for k in labels[i, : several[i]])
                file.write(f'{id_}, {starts[i]}.000, {starts[i] + 10}.000, "{names}"\n')
                if i % 50000 == 0:
                    folder = root / f"{stem}_segments" / f"{stem}_segments_part{i // 50000:02}"
                    folder.mkdir(parents=True)
                    original = folder / f"Y{id_}.wav"
                    original.write_bytes(b"not read")
                else:
                    os.link(original, folder / f"Y{id_}.wav")


def remember(root: Path, checks: Checks) -> None:
    """Judgements on all files, as a first check would have left them."""
    index = index_media(root)["audio"]
    paths = index.paths(np.arange(len(index)))
    good = Judgement("", 10.0, 10.0, "no video", float("nan"), False)
    checks._note(_stamps(paths), 0, [good] * len(paths))


def make_howto100m(root: Path, videos: int, lines: int) -> None:
    """The list and `caption.json`, about 110 overlapping lines of 4 words a video."""
    rng = np.random.default_rng(0)
    names = ids(videos, 7)
    root.mkdir(parents=True)
    with (root / "HowTo100M_v1.csv").open("w") as file:
        file.write("video_id,category_1,category_2,rank,task_id\n")
        file.writelines(f"{id_},Food & Entertaining,Made up,{i % 200},{i % 23000}\n" for i, id_ in enumerate(names))
    texts = [" ".join(WORDS[k] for k in rng.integers(0, len(WORDS), 4)) for _ in range(5000)]
    with (root / "caption.json").open("w") as file:
        for i, id_ in enumerate(names):
            count = lines // videos + (i < lines % videos)
            start = np.round(np.arange(count) * 3.1 + rng.random(), 2).tolist()
            said = {"start": start, "end": [round(s + 4.2, 2) for s in start]}
            said["text"] = [texts[k] for k in rng.integers(0, 5000, count)]
            file.write(("{" if i == 0 else ", ") + f"{json.dumps(id_)}: {json.dumps(said)}")
        file.write("}")


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def private_gb(pid: int) -> float:
    """Memory that is a process's own: not shared with others, nor a file's that the system may drop."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith(("Private_Dirty", "Anonymous"))) / 2 / 2**20


def report(what: str, began: float, note: str = "") -> None:
    print(f"{what}: {time.monotonic() - began:.1f} s, peak {peak_gb():.2f} GB {note}", flush=True)


def measure_audioset(root: Path) -> None:
    began = time.monotonic()
    checks = Checks(root.parent / "checks")
    manifest = build_manifest(AudioSet(root), list(AudioSet.sizes), Inputs(video=None), checks)
    report("AudioSet manifest", began, f"{len(manifest):,} of {manifest.official:,} clips, {manifest.excluded}")
    began = time.monotonic()
    report(f"fingerprint {manifest.fingerprint}", began)
    measure_workers(manifest, Inputs(video=None))


def measure_howto100m(root: Path) -> None:
    began = time.monotonic()
    source = HowTo100M(root, root.parent / "cache")
    print(f"{len(source.captions):,} videos with captions, {source.captions.skipped} lines left out")
    report("HowTo100M captions", began)
    began = time.monotonic()
    features = FeatureInputs(kinds=[], rates=[], dims=[])
    inputs = Inputs(None, None, TextInputs(), features)
    manifest = build_manifest(source, ["train"], inputs, Checks(root.parent / "checks"))
    report("HowTo100M manifest", began, f"{len(manifest):,} of {manifest.official:,} videos, {manifest.excluded}")


def measure_workers(manifest: Manifest, inputs: Inputs) -> None:
    """Memory of eight loader processes that hold the manifest and wait."""
    from datamodules.loading.clips import ClipDataset

    dataset = ClipDataset(manifest, DataConfig(inputs=inputs, loader=LoaderConfig()), seed=0)
    context = multiprocessing.get_context("spawn")
    empty = [context.Process(target=hold, args=(None, 0, gate := context.Event())) for _ in range(1)]
    full = [context.Process(target=hold, args=(dataset, 1000 * i, gate)) for i in range(8)]
    for process in (*empty, *full):
        process.start()
    time.sleep(60)
    base = private_gb(empty[0].pid)
    print(f"a process that has only imported the same: {base:.2f} GB of its own")
    print("8 workers with the manifest:", ", ".join(f"{private_gb(p.pid):.2f}" for p in full), "GB")
    gate.set()
    for process in (*empty, *full):
        process.join()


def hold(dataset, first: int, gate) -> None:
    import datamodules.loading.clips  # noqa: F401

    if dataset is not None:
        for row in range(first, first + 1000):
            dataset._moments(ClipRef(row, EVALUATION))
            dataset.label(row)
    gate.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("audioset", "howto100m"))
    parser.add_argument("--folder", type=Path, default=Path("/tmp/avl-bench-full-scale"))
    parser.add_argument("--videos", type=int, default=1_238_911)
    parser.add_argument("--lines", type=int, default=136_000_000)
    options = parser.parse_args()
    root = options.folder / options.dataset
    if not root.exists():
        began = time.monotonic()
        if options.dataset == "audioset":
            make_audioset(root)
        else:
            make_howto100m(root, options.videos, options.lines)
        print(f"made {root} in {time.monotonic() - began:.0f} s")
    if options.dataset == "audioset" and not list(options.folder.glob(f"checks/v{CHECK_VERSION}-*.parquet")):
        remember(root, Checks(options.folder / "checks"))
    measure = {"audioset": measure_audioset, "howto100m": measure_howto100m}[options.dataset]
    process = multiprocessing.get_context("spawn").Process(target=measure, args=(root,))
    process.start()
    process.join()


if __name__ == "__main__":
    main()
