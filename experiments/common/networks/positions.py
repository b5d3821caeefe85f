"""Position tables: fixed sines and cosines (Vaswani et al. 2017; over grids as in MAE and its video and audio twins),
and learned ones for grids of another size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SLACK = 0.1
"""Of a patch, by which a resized axis is asked to be longer, so that rounding leaves none out (DINO
`vision_transformer.py`, `interpolate_pos_encoding`). It moves what is read by up to 2 % of the grid."""


def sincos_1d(dim: int, position_N: Tensor) -> Tensor:
    """[N] positions -> [N, dim] float64: dim/2 sines, then dim/2 cosines, of wavelengths 2 pi to 20000 pi."""
    frequency = 10000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = position_N.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sincos_2d(dim: int, rows: int, columns: int) -> Tensor:
    """[rows * columns, dim] float64, row by row: half of the channels encode the column, half the row."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([sincos_1d(dim // 2, column.flatten()), sincos_1d(dim // 2, row.flatten())], dim=1)


def sincos_3d(dim: int, times: int, rows: int, columns: int) -> Tensor:
    """[times * rows * columns, dim] float64: 1/4 of the channels encode the time, 3/4 the place."""
    time = sincos_1d(dim // 4, torch.arange(times)).repeat_interleave(rows * columns, dim=0)
    return torch.cat([time, sincos_2d(dim // 4 * 3, rows, columns).repeat(times, 1)], dim=1)


def with_cls(table_LD: Tensor) -> Tensor:
    """[L, D] -> [1 + L, D] float32: a first row of zeros for the CLS token."""
    return torch.cat([torch.zeros_like(table_LD[:1]), table_LD]).float()


def resized(table_1SD: Tensor, grid: tuple[int, ...], wanted: tuple[int, ...]) -> Tensor:
    """A learned table, CLS first, for another grid: bicubic over 2 axes, trilinear over 3, as DINO and XKD resize it.

    Args:
        table_1SD: [1, 1 + prod(grid), D].
        grid: patches along each axis.
        wanted: the same of what the table is for; an axis that stays is read where it was.

    Returns:
        [1, 1 + prod(wanted), D].
    """
    if wanted == grid:
        return table_1SD
    places = table_1SD[:, 1:].unflatten(1, grid).movedim(-1, 1)
    scale = tuple(1.0 if new == own else (new + SLACK) / own for own, new in zip(grid, wanted, strict=True))
    mode = "bicubic" if len(grid) == 2 else "trilinear"
    places = F.interpolate(places, scale_factor=scale, mode=mode)
    return torch.cat([table_1SD[:, :1], places.flatten(2).transpose(1, 2)], dim=1)


def splined(table_LD: Tensor, length: int) -> Tensor:
    """A learned table of one axis for another length: a spline of third order through it, at i / L, read at i / length
    (google-research `vatt/utils/train/restore.py`; tensorflow_addons' `interpolate_spline`). In float64.

    Returns:
        [length, D] of the table's type.
    """
    if length == len(table_LD):
        return table_LD
    own_L, wanted_N = (torch.arange(n, dtype=torch.float64) / n for n in (len(table_LD), length))

    def seen_from(place_N: Tensor) -> tuple[Tensor, Tensor]:
        """Cubed distances to the table's places, and what is linear in a place."""
        return (place_N[:, None] - own_L).abs() ** 3, torch.stack([place_N, torch.ones_like(place_N)], 1)

    cubes_LL, line_L2 = seen_from(own_L)
    system = torch.cat([torch.cat([cubes_LL, line_L2], 1), torch.cat([line_L2.T, torch.zeros(2, 2)], 1).double()])
    values = torch.cat([table_LD.double().cpu(), torch.zeros(2, table_LD.shape[1])])
    return (torch.cat(seen_from(wanted_N), 1) @ torch.linalg.solve(system, values)).to(table_LD)
