"""Weights from elsewhere: the state dicts of the development code, of its classes (`LAVA`) or out of Lightning.

    temperature                                        ->  scale
    {a,v,t}_encoder.{pos_embedding,feat_token}         ->  encoders.{a,v,t}.{positions,token}
    {a,v,t}_encoder.{proj,fc}.*                        ->  encoders.{a,v,t}.{proj,fc}.*
    {a,v,t}_encoder.encoder.layers.*                   ->  encoders.{a,v,t}.layers.*
    t_encoder.token_embedding.*                        ->  encoders.t.embedding.*
    {a,v,t}_proj.*                                     ->  projections.shared.{a,v,t}.*
    {a,v,t}_{av,at,vt,avt}_proj.* (commit 5e513f5)     ->  projections.{av,at,vt,centroid}.{a,v,t}.*

Left out are the layer that theirs copies and never uses (`encoder_layer`), and the still images of the last version
(`i_*`), which the paper's title does not name. Its authors published no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from torch import Tensor, nn

from experiments.common.checkpoints.table import Table, bare
from experiments.common.weights import load_strict, matches, without_prefix
from experiments.lava.model import CENTROID, SHARED

OFFICIAL = Table(
    (
        ("temperature", "scale"),
        (r"([avt])_encoder\.pos_embedding", r"encoders.\1.positions"),
        (r"([avt])_encoder\.feat_token", r"encoders.\1.token"),
        (r"t_encoder\.token_embedding\.weight", "encoders.t.embedding.weight"),
        (r"([avt])_encoder\.(proj|fc)\.(.+)", r"encoders.\1.\2.\3"),
        (r"([avt])_encoder\.encoder\.layers\.(.+)", r"encoders.\1.layers.\2"),
        (r"[avti]_encoder\.encoder_layer\..+", None),
        (r"i_(encoder|proj)\..+", None),
        (r"([avt])_proj\.(.+)", rf"projections.{SHARED}.\1.\2"),
        (r"([avt])_avt_proj\.(.+)", rf"projections.{CENTROID}.\1.\2"),
        (r"([avt])_(av|at|vt)_proj\.(.+)", r"projections.\2.\1.\3"),
    )
)
PARTS = (
    *(f"encoders.{modality}" for modality in "avt"),
    *(f"projections.{name}.{m}" for name, m in product((SHARED, CENTROID, "av", "at", "vt"), "avt")),
    "scale",
)
"""What a stage may do without: it has what it looks at."""


def load(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fills a network of all modalities, or of some, with our own weights or the authors'.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    weights = without_prefix(bare(weights), "encoder.")  # Lightning's name of the authors' class
    if any(key.startswith(("a_encoder.", "v_encoder.", "t_encoder.")) for key in weights):
        weights = OFFICIAL.renamed(weights)
    own = net.state_dict()
    load_strict(net, weights, unused=tuple(part for part in PARTS if not any(matches(key, (part,)) for key in own)))
