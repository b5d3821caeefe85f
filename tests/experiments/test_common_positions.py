from __future__ import annotations

import math

import torch

from experiments.common.networks.positions import sincos_1d, sincos_2d, sincos_3d, with_cls


def angle(position: float, channel: int, channels: int) -> float:
    """Vaswani et al.: position / 10000 ** (2 i / d), for sine and cosine channel i of d / 2 each."""
    return position / 10000 ** (2 * channel / channels)


def test_1d_is_sines_then_cosines():
    table = sincos_1d(8, torch.tensor([0.0, 3.0]))
    expected = [f(angle(3, i, 8)) for f in (math.sin, math.cos) for i in range(4)]
    assert torch.allclose(table[1], torch.tensor(expected, dtype=torch.float64))
    assert table[0].tolist() == [0.0] * 4 + [1.0] * 4


def test_2d_tells_the_column_in_the_first_half_and_the_row_in_the_second():
    table = sincos_2d(16, rows=3, columns=5)
    assert table.shape == (15, 16)
    row, column = 2, 4
    assert torch.equal(table[row * 5 + column, :8], sincos_1d(8, torch.tensor([column]))[0])
    assert torch.equal(table[row * 5 + column, 8:], sincos_1d(8, torch.tensor([row]))[0])


def test_3d_tells_the_time_in_a_quarter_of_the_channels():
    table = sincos_3d(32, times=2, rows=3, columns=5)
    assert table.shape == (30, 32)
    assert torch.equal(table[15 + 7, :8], sincos_1d(8, torch.tensor([1]))[0])
    assert torch.equal(table[15 + 7, 8:], sincos_2d(24, 3, 5)[7])


def test_every_place_has_its_own_code():
    assert len(sincos_3d(48, 4, 14, 14).unique(dim=0)) == 784
    assert len(sincos_2d(48, 64, 8).unique(dim=0)) == 512


def test_cls_is_a_row_of_zeros_in_front():
    table = with_cls(sincos_2d(16, 2, 2))
    assert table.shape == (5, 16) and table.dtype == torch.float32 and not table[0].any() and table[1].any()
