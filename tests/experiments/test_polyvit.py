"""What is PolyViT's own: one encoder for all, one dataset a step, by its own recipe. Its class is compared with the
authors' in `recorded/polyvit.py`."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from bench.contract.cases import composed
from datamodules.parts import PartSpec
from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.optim import OptimConfig
from experiments.common.stage import StageSpec
from experiments.polyvit.checkpoints import load
from experiments.polyvit.method import TaskOptions, Train, TrainOptions
from experiments.polyvit.model import PolyViTConfig

INPUTS = {
    "i": Inputs(None, None, streams={"image": {"kind": "image", "size": 16}}),
    "a": Inputs(AudioInputs(frames=16, mel_bins=8), None),
    "v": Inputs(None, VideoInputs(frames=2, size=8)),
}
PARTS = [
    PartSpec(name, INPUTS[m], m, classes, several, "label", 4)  # type: ignore[arg-type]
    for name, m, classes, several in (("pets", "i", 3, False), ("fsd50k", "a", 4, True), ("kinetics", "v", 2, False))
]
SHAPES = {"i": ("image", (3, 16, 16)), "a": ("audio", (1, 16, 8)), "v": ("video", (3, 2, 8, 8))}
SMALL = PolyViTConfig(dim=16, depth=3, heads=2, patch=8, tubelet=2)


def stage(config: PolyViTConfig = SMALL, parts: list[PartSpec] = PARTS, **options: Any) -> Train:
    torch.manual_seed(0)
    optim = OptimConfig(algorithm="sgd", lr=0.1, betas=[0.9, 0.999], warmup_epochs=1, weight_decay=0.0)
    spec = StageSpec(config, TrainOptions(**options), optim=optim, steps_per_epoch=6, epochs=1, parts=parts)
    made = Train(spec)
    for head in made.net.heads.values():
        nn.init.normal_(head.weight, std=0.1)  # type: ignore[arg-type]
    return made


def batch(name: str) -> dict[str, Any]:
    (part,) = (part for part in PARTS if part.name == name)
    key, shape = SHAPES[part.modality]
    draw = torch.Generator().manual_seed(0)
    label = torch.eye(part.num_classes)[torch.arange(4) % part.num_classes]
    return {key: torch.randn(4, *shape, generator=draw), "label": label, "part_name": name}


def trained(made: Train, *names: str) -> list[float]:
    """A step of each dataset; the rate of each step."""
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    class Steps(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(names)

        def __getitem__(self, place: int) -> dict[str, Any]:
            return batch(names[place])

    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[Rates()], enable_model_summary=False, **settings)
    trainer.fit(made, torch.utils.data.DataLoader(Steps(), batch_size=None))
    return rates


def weights(made: Train) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.net.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Which parts of the network, `tokens.a` or `blocks`."""
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    return {".".join(name.split(".")[: 2 if name.startswith(("tokens", "heads", "own")) else 1]) for name in changed}


def test_a_step_moves_the_encoder_and_what_is_of_its_dataset_and_its_modality():
    made = stage(idle="stay").eval()
    before, seen = weights(made), batch("pets")["image"]
    logits = made.net("pets", "i", seen)
    trained(made, "fsd50k", "fsd50k")
    assert moved(before, weights(made)) == {"tokens.a", "heads.fsd50k", "blocks", "norm"}
    assert not torch.allclose(made.net("pets", "i", seen), logits), "the encoder is that of pictures, too"


@pytest.mark.parametrize(("idle", "others"), [("drift", {"tokens.i", "heads.pets"}), ("stay", set())])
def test_what_has_no_part_in_a_step_drifts_by_its_momentum_or_stays(idle, others):
    made = stage(idle=idle)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    for name in ("pets", "fsd50k"):
        optimizer.zero_grad()
        made.losses(batch(name))["loss"].backward()
        made.on_before_optimizer_step(optimizer)
        before = weights(made)
        optimizer.step()
    assert moved(before, weights(made)) == {"tokens.a", "heads.fsd50k", "blocks", "norm"} | others


def test_a_step_has_the_schedule_s_rate_times_its_dataset_s():
    names = ["pets", "fsd50k", "kinetics", "pets", "fsd50k", "kinetics"]
    plain = trained(stage(), *names)
    shares = {"pets": 0.03, "fsd50k": 0.5}
    made = stage(tasks={name: TaskOptions(rate=share) for name, share in shares.items()})
    taken: list[float] = []
    step = torch.optim.SGD.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.optim.SGD, "step",
            lambda self, closure=None: (taken.append(self.param_groups[0]["lr"]), step(self, closure))[1],
        )  # fmt: skip
        assert trained(made, *names) == pytest.approx(plain), "between steps the rate is the schedule's"
    assert taken == pytest.approx([rate * shares.get(name, 1.0) for rate, name in zip(plain, names, strict=True)])
    assert plain[1] > 0


def test_parameters_are_the_encoder_s_and_of_each_modality_tokens_and_of_each_dataset_a_classifier():
    net, alone = stage().net, [stage(parts=[part]).net for part in PARTS]
    encoder = sum(p.numel() for place in (net.blocks, net.norm) for p in place.parameters())
    own = [sum(p.numel() for p in each.parameters()) - encoder for each in alone]
    assert sum(p.numel() for p in net.parameters()) == encoder + sum(own)


def test_with_all_layers_their_own_modalities_share_nothing_but_the_last_norm():
    made = stage(PolyViTConfig(**{**vars(SMALL), "own_layers": 3}), idle="stay")
    before = weights(made)
    trained(made, "fsd50k", "fsd50k")
    assert moved(before, weights(made)) == {"tokens.a", "heads.fsd50k", "own.a", "norm"}
    with pytest.raises(ValueError, match="model.own_layers must be from 0 to model.depth 3, not 4"):
        stage(PolyViTConfig(**{**vars(SMALL), "own_layers": 4}))


def test_each_dataset_has_its_own_stochastic_depth():
    made = stage(tasks={"fsd50k": TaskOptions(drop_path=0.3)})

    def rates() -> list[float]:
        return [m.drop_prob for m in made.net.blocks.modules() if isinstance(m, DropPath)]

    made.losses(batch("fsd50k"))
    assert rates() == pytest.approx([0, 0, 0.15, 0.15, 0.3, 0.3])
    made.losses(batch("pets"))
    assert rates() == [0.0] * 6
    made.eval().losses(batch("fsd50k"))
    assert rates() == [0.0] * 6


def test_an_encoder_of_many_datasets_is_that_of_one_of_them():
    many, one = stage(), stage(parts=[PARTS[1]])
    nn.init.ones_(many.net.heads["fsd50k"].weight)  # type: ignore[arg-type]
    load(one.net, many.net.state_dict())
    seen = batch("fsd50k")["audio"]
    assert torch.equal(one.net("fsd50k", "a", seen), many.net("fsd50k", "a", seen))


def test_all_are_trained_together_for_as_many_steps_as_alone():
    stages = composed("polyvit", preset="paper").stages
    mixture = stages["cotrain"].mixture
    steps = {"vggsound": mixture.weight, **{name: part.weight for name, part in mixture.parts.items()}}
    assert sum(steps.values()) == mixture.steps == 417_920
    for name, count in steps.items():
        alone = stages[f"single_{name}"]
        clips = alone.objects.source.sizes.get(alone.train[0], 0)
        if clips and name not in ("moments", "kinetics400", "vggsound", "audioset"):  # of whose videos some are gone
            assert clips // alone.batch_size * alone.epochs == pytest.approx(count, rel=0.01), name


def test_what_is_wrong_is_named():
    both = PartSpec("both", INPUTS["a"], "av", 2, False, "label", 4)
    with pytest.raises(ValueError, match="modality=av of both: PolyViT looks at one at a time"):
        stage(parts=[both])
    bare = PartSpec("bare", Inputs(None, None), "i", 2, False, "label", 4)
    with pytest.raises(ValueError, match="data.inputs.streams.image, which datasets of pictures have, is not there"):
        stage(parts=[bare])
