"""What a GPU must do as a CPU does. Skipped without one."""

from __future__ import annotations

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from datamodules import keyed
from datamodules.base import Features
from datamodules.types import AudioInputs, AugmentConfig, Inputs, VideoInputs


@pytest.mark.gpu
def test_keyed_randomness_is_the_same_bits_on_a_gpu():
    key = torch.arange(64)
    assert torch.equal(keyed.uniform(key, "x", 100), keyed.uniform(key.cuda(), "x", 100).cpu())


@pytest.mark.gpu
def test_features_and_augmentation_are_the_same_on_a_gpu():
    inputs = Inputs(AudioInputs(frames=256), VideoInputs(frames=4, size=64, train_size=72))
    augment = AugmentConfig(roll_gain=True, mixup=0.5, freq_mask=16, time_mask=32, crop_scale=0.5, flip=True)
    generator = torch.Generator().manual_seed(0)

    def raw(device: str):
        generator.manual_seed(0)
        clips, partners = ({name: value[part] for name, value in every().items()} for part in (slice(8), slice(8, 12)))
        clips |= {"partner": partners, "partner_place": torch.tensor([0, 2, 5, 7])}
        return move_data_to_device(clips, device)

    def every():
        return {
            "clip_id": [str(i) for i in range(12)],
            "key": torch.arange(12),
            "label": torch.eye(12),
            "audio": torch.rand(12, 41000, generator=generator) - 0.5,
            "audio_length": torch.arange(29000, 41000, 1000),
            "frames": torch.randint(0, 256, (12, 4, 72, 72, 3), generator=generator, dtype=torch.uint8),
        }

    cpu = Features(inputs, augment)(raw("cpu"), train=True)
    gpu = Features(inputs, augment).cuda()(raw("cuda"), train=True)
    for name, tolerance in (("audio", 5e-3), ("video", 1e-3), ("label", 1e-6)):
        torch.testing.assert_close(gpu[name].cpu(), cpu[name], rtol=0, atol=tolerance)
