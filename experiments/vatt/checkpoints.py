"""Weights from elsewhere, and those of stages with other inputs.

The authors' TensorFlow checkpoints (bucket tf_model_garden: `tx_fac_*`, `ut_fac_*`), as `python -m bench weights
convert` writes them; theirs stand under `model/layer_with_weights-0/`:

    _base_layer/{vid,aud}_backbone/_base/tx/layers/N  ->  transformers.{v,a}.blocks.N
    _base_layer/unified_backbone/unified_transformer  ->  fronts.*, transformers.shared, after.*
    _base_layer/txt_backbone/base_lm                  ->  transformers.t
    _head_layer/_bridge_heads/0                       ->  fine.*, coarse.*
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from experiments.common.checkpoints.flax import fused_qkv, linear
from experiments.common.checkpoints.keras import SUFFIX, layer
from experiments.common.checkpoints.table import Entry, Table
from experiments.common.networks.positions import splined
from experiments.common.weights import load_strict, require_fit
from experiments.vatt.model import VATT, Towers

MODEL = "model/layer_with_weights-0/"
MODALITIES = {"video": "v", "audio": "a", "text": "t"}
AXES = ("temporal", "vertical", "horizontal")
TABLES = ".places.tables."
HEADS = ("fine", "coarse")


def _blocks(theirs: str, ours: str, attention: str, norm: str) -> list[Entry]:
    block, place = rf"{theirs}/layers/(\d+)", rf"{ours}.blocks.\1"
    return [
        layer(rf"{block}/{norm}", f"{place}.norm1"),
        layer(rf"{block}/{attention}/([qkv])", rf"{place}.attn.\2"),
        layer(rf"{block}/{attention}/o", f"{place}.attn.proj"),
        layer(rf"{block}/feed_forward/layer_norm", f"{place}.norm2"),
        layer(rf"{block}/feed_forward/mlp/wi", f"{place}.mlp.fc1"),
        layer(rf"{block}/feed_forward/mlp/wo", f"{place}.mlp.fc2"),
        layer(rf"{theirs}/final_layer_norm", f"{ours}.norm"),
    ]


def _places(theirs: str, ours: str) -> list[Entry]:
    tables: list[Entry] = [
        (rf"{theirs}/{axis}_position_embeddings/embeddings", f"{ours}{TABLES}{number}")
        for number, axis in enumerate(AXES)
    ]
    return [*tables, layer(f"{theirs}/layernorm", f"{ours}.places.norm")]


def _own(base: str) -> list[Entry]:
    found: list[Entry] = []
    for short, patch, m in (("vid", "voxel", "v"), ("aud", "wave", "a")):
        theirs, ours = f"{base}{short}_backbone/_base", f"fronts.{m}"
        found += [
            (f"{theirs}/agg_embedding", f"{ours}.first.token"),
            layer(f"{theirs}/{patch}_to_patch", f"{ours}.project"),
        ]
        found += _places(f"{theirs}/pos_embedding_lookup", ours)
        found += _blocks(f"{theirs}/tx", f"transformers.{m}", "mha", "layer_norm")
    text = f"{base}txt_backbone"
    found += [(f"{text}/agg_embedding", "fronts.t.0.token"), (f"{text}/embedding/.+", None)]
    found += [layer(f"{text}/pre_proj", "fronts.t.1.0")]
    found += [layer(f"{text}/base_lm/layers/0/self_attention/attention/relative_attention_bias", "transformers.t.bias")]
    return found + _blocks(f"{text}/base_lm", "transformers.t", "self_attention/attention", "self_attention/layer_norm")


def _shared(base: str) -> list[Entry]:
    root = f"{base}unified_backbone/unified_transformer"
    found: list[Entry] = [(f"{root}/raw_to_embeddings/text/.+", None)]
    for name, m in MODALITIES.items():
        short = {"v": "vid", "a": "aud", "t": "txt"}[m]
        found += [(f"{root}/{short}_agg_embedding", f"fronts.{m}.first.token")]
        found += [layer(f"{root}/raw_to_embeddings/{name}", f"fronts.{m}.project")]
        found += [
            layer(f"{root}/{part}_proj/{name}", ours)
            for part, ours in (("pre", f"fronts.{m}.pre.0"), ("post", f"after.{m}.0"))
        ]
        found += _places(f"{root}/pos_embedding_lookup/{name}", f"fronts.{m}")
    return found + _blocks(f"{root}/tx", "transformers.shared", "mha", "layer_norm")


def _heads(head: str) -> list[Entry]:
    fac = {
        "vid_to_hid": "fine.v.0",
        "hid_to_va/pre_bn": "fine.v.1",
        "hid_to_va/dense": "fine.v.3",
        "hid_to_va/bn": "fine.v.4",
    }
    fac |= {
        "aud_to_va": "fine.a",
        "va_to_vat/dense": "coarse.v.1",
        "va_to_vat/bn": "coarse.v.2",
        "txt_to_vat": "coarse.t",
    }
    joint = {
        f"{short}_to_vat/{part}": f"{ours}.{number}"
        for short, ours in (("vid", "fine.v"), ("aud", "fine.a"), ("txt", "coarse.t"))
        for part, number in (("dense", 1), ("bn", 2))
    }
    return [layer(f"{head}{theirs}", ours) for theirs, ours in (joint | fac).items()]


@cache
def official() -> Table:
    """How the authors' weights become ours."""
    names = [
        (r"(?:optimizer|save_counter|global_step)(?:/.*)?|model/.*/\.OPTIMIZER_SLOT/.*", None),
        *_own(f"{MODEL}_base_layer/"),
        *_shared(f"{MODEL}_base_layer/"),
        *_heads(f"{MODEL}_head_layer/_bridge_heads/0/"),
    ]
    inside = r"(?:fronts|transformers)\..*(?:project|pre\.0|t\.1\.0|attn\.\w+|mlp\.fc[12])\.weight"
    return Table(tuple(names), ((inside, linear), (r"(?:fine|coarse|after)\..*weight", linear)))


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `VATT`.

    Raises:
        ValueError: naming the keys that have no place in it.
    """
    ours, wrong = official().translated({key.removesuffix(SUFFIX): value for key, value in weights.items()})
    ours, missing = fused_qkv(ours)
    require_fit(wrong + missing)
    counts = {f"{key.rpartition('.')[0]}.num_batches_tracked": torch.tensor(0) for key in ours if "running_mean" in key}
    return ours | counts


def load(net: Towers, weights: Mapping[str, Tensor]) -> None:
    """Fills a network with the authors' weights, its own, or those of a larger one. Places of an axis that has another
    length are read off a spline (official `restore.py`).

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    if any(key.startswith(MODEL) for key in weights):
        weights = from_official(weights)
    own = net.state_dict()
    fitting = {
        key: splined(value, len(own[key])) if TABLES in key and key in own else value for key, value in weights.items()
    }
    parts = [f"{part}.{m}" for part in ("fronts", "transformers", "after", *HEADS) for m in "vat"]
    lacking = [part for part in parts if not any(key.startswith(f"{part}.") for key in own)]
    load_strict(net, fitting, unused=(*lacking, *(() if isinstance(net, VATT) else HEADS), "words"))
