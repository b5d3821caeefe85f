"""What a scene looks like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.sample.world import FRAMES, LOOKS, ROOMS, Actor, Scene, generator

SIZE = 96
"""Pixels, height and width."""
FLOOR = 84
"""The row of the ground."""
RADIUS = (10.0, 17.0)  # pixels, of the smallest and of the biggest actor
BOUNCE = (18.0, 36.0)  # pixels, of the lowest and the highest bounce
SQUASH = 0.7  # an actor's height at the impact; its width grows as its height shrinks
GLOW = (1.0, 0.35)  # the light on the ground at the impact and one frame later

Floats = NDArray[np.floating]
"""float32; numpy's stubs do not follow that through its functions."""

_COLOURS = {
    "grey": (150, 150, 150),
    "red": (220, 30, 30),
    "yellow": (240, 220, 30),
    "green": (30, 170, 50),
    "blue": (40, 60, 230),
    "magenta": (230, 40, 190),
    "cyan": (40, 220, 230),
    "white": (250, 250, 250),
    "orange": (245, 130, 20),
    "black": (10, 10, 10),
    "violet": (120, 40, 170),
}


def render(scene: Scene) -> NDArray[np.uint8]:
    """[FRAMES, SIZE, SIZE, 3] RGB."""
    frames = np.repeat(background(scene.room, generator(*scene.key, "picture"))[None], FRAMES, axis=0)
    seen = (*scene.actors, *scene.silent)
    for actor in seen:
        light_floor(frames, actor)
    for actor in seen:
        draw(frames, actor)
    return rounded(frames)


def rounded(picture: Floats) -> NDArray[np.uint8]:
    """Levels as bytes."""
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _tint(room: int) -> Floats:
    """[3] what the room's walls have more or less of red, green and blue: eight hues, evenly spread."""
    return np.cos(2 * np.pi * (room / ROOMS + np.arange(3) / 3)).astype(np.float32)


def background(room: int, rng: np.random.Generator) -> Floats:
    """[SIZE, SIZE, 3] a dull wall in the room's tint with soft stripes and specks, and a darker floor."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    wall = rng.uniform(70, 120) + 40 * _tint(room) + rng.uniform(-10, 10, size=3)
    angle, phase = rng.uniform(0, 2 * np.pi, size=2)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.1, 0.4) + phase)
    picture = wall + rng.uniform(0, 12) * stripes[..., None]
    for _ in range(rng.integers(2, 6)):
        row, column = rng.integers(0, (FLOOR - 4, SIZE - 4))
        height, width = rng.integers(2, 5, size=2)
        picture[row : row + height, column : column + width] = rng.uniform(0, 255, size=3)
    picture[FLOOR:] *= 0.6
    return picture.astype(np.float32)


def heights(actor: Actor) -> Floats:
    """[FRAMES] an actor's height over the ground in pixels: a parabola from each impact to the next.

    Before the first and after the last impact it is on its way from and to one outside the clip.
    """
    edges = np.array([-2, *actor.impacts, FRAMES + 2])
    frame = np.arange(FRAMES)
    before = np.searchsorted(edges, frame, side="right") - 1
    share = (frame - edges[before]) / (edges[before + 1] - edges[before])
    peak = BOUNCE[0] + (BOUNCE[1] - BOUNCE[0]) * actor.bounce
    return (peak * 4 * share * (1 - share)).astype(np.float32)


def box(actor: Actor, frame: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the actor in a frame, as shares of the picture."""
    radius, squash = _radius(actor), SQUASH if frame in actor.impacts else 1.0
    x, y = float(_columns(actor)[frame]), float(FLOOR - heights(actor)[frame] - radius * squash)
    across = np.linspace(-1, 1, 201, dtype=np.float32)
    row, column = np.nonzero(_SHAPES[LOOKS[actor.look].split()[1]](across, across[:, None]) >= 0)
    xs = x + across[[column.min(), column.max()]] * radius / squash
    ys = y + across[[row.min(), row.max()]] * radius * squash
    (left, right), (top, bottom) = (np.clip(ends / SIZE, 0, 1).tolist() for ends in (xs, ys))
    return left, top, right, bottom


def _columns(actor: Actor) -> Floats:
    """[FRAMES] where the actor's middle is, in pixels from the left."""
    return (SIZE * (actor.x + actor.drift * np.arange(FRAMES) / FRAMES)).astype(np.float32)


def _radius(actor: Actor) -> float:
    return RADIUS[0] + (RADIUS[1] - RADIUS[0]) * actor.size


def light_floor(frames: Floats, actor: Actor) -> None:
    """Light on the ground around every impact, brightest at the frame of the impact."""
    columns = _columns(actor)
    for impact in actor.impacts:
        for later, glow in enumerate(GLOW):
            distance = np.abs(np.arange(SIZE) - columns[impact + later]) / (1.6 * _radius(actor))
            light = glow * np.clip(1.5 - distance, 0, 1)[:, None]
            floor = frames[impact + later, FLOOR:]
            floor += light * (255 - floor)


def draw(frames: Floats, actor: Actor) -> None:
    """Draws the actor into all frames, over what is there."""
    colour_name, shape_name = LOOKS[actor.look].split()
    colour = np.array(_COLOURS[colour_name], np.float32) * (0.85 + 0.15 * actor.shade)
    squash = np.ones(FRAMES, np.float32)
    squash[list(actor.impacts)] = SQUASH
    radius = _radius(actor)
    middle_y, middle_x = FLOOR - heights(actor) - radius * squash, _columns(actor)

    # Only a square around the actor is computed: P pixels a side, from whole-pixel corners.
    reach = int(radius / SQUASH) + 2
    top, left = middle_y.astype(int) - reach, middle_x.astype(int) - reach
    offsets = np.arange(2 * reach + 1)
    rows, columns = top[:, None] + offsets, left[:, None] + offsets  # [FRAMES, P]
    y = ((rows - middle_y[:, None]) / (radius * squash[:, None]))[:, :, None]
    x = ((columns - middle_x[:, None]) / (radius / squash[:, None]))[:, None, :]
    coverage = np.clip(0.5 + radius * _SHAPES[shape_name](x, y), 0, 1)[..., None]  # [FRAMES, P, P, 1]

    inside = ((rows >= 0) & (rows < SIZE))[:, :, None] & ((columns >= 0) & (columns < SIZE))[:, None, :]
    coverage = coverage * inside[..., None]
    where = np.arange(FRAMES)[:, None, None], rows.clip(0, SIZE - 1)[:, :, None], columns.clip(0, SIZE - 1)[:, None, :]
    under = frames[where]
    # Pixels outside the picture are clipped onto its edge with coverage 0: only the real ones are written.
    painted = under + coverage * (colour - under)
    index = tuple(np.broadcast_to(part, inside.shape)[inside] for part in where)
    frames[index] = painted[inside]


# Shapes: how deep (x, y) lies inside, as a share of the radius; negative outside. x and y are in radii.


def _disc(x: Floats, y: Floats) -> Floats:
    return 1 - np.hypot(x, y)


def _square(x: Floats, y: Floats) -> Floats:
    return 0.9 - np.maximum(np.abs(x), np.abs(y))


def _triangle(x: Floats, y: Floats) -> Floats:
    return np.minimum(1 - y, 0.45 * (1 + y) - 0.9 * np.abs(x))


def _ring(x: Floats, y: Floats) -> Floats:
    return 0.25 - np.abs(np.hypot(x, y) - 0.75)


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(1 - np.maximum(x, y), 0.35 - np.minimum(x, y))


def _diamond(x: Floats, y: Floats) -> Floats:
    return 0.7 * (1 - np.abs(x) - np.abs(y))


def _bar(x: Floats, y: Floats) -> Floats:
    return np.minimum(0.4 - np.abs(x), 1 - np.abs(y))


def _star(x: Floats, y: Floats) -> Floats:
    return 0.7 + 0.3 * np.cos(5 * np.arctan2(x, -y)) - np.hypot(x, y)


_SHAPES = {
    "ball": _disc,
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
    "bar": _bar,
    "star": _star,
}
