"""The objects of the scenes, told apart by their outlines: colours and sizes overlap between the classes.

Outlines are drawn in units of the object's length, with its front along the first axis.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.synthetic.canvas import Canvas, Floats, Patch, Point, place, rectangle
from distill.synthetic.setting import Setting, cast_shadow

_MARGIN = 5  # pixels between objects, so that connected regions tell them apart
_INSIDE = 0.4  # of an object's length: its centre is at least so far from the border
LENGTHS = (24.0, 64.0)  # pixels, in scenes of 128 pixels and more

_PAINTS = np.array(
    [
        [0.88, 0.88, 0.87],  # white
        [0.70, 0.71, 0.73],  # aluminium
        [0.46, 0.48, 0.50],  # grey
        [0.60, 0.33, 0.25],  # tiles, rust
        [0.30, 0.40, 0.55],  # blue
        [0.36, 0.46, 0.34],  # green
        [0.74, 0.66, 0.50],  # beige
        [0.28, 0.29, 0.32],  # bitumen
    ]
)
_COURTS = np.array([[0.30, 0.47, 0.36], [0.27, 0.41, 0.56], [0.62, 0.36, 0.27], [0.50, 0.52, 0.54], [0.45, 0.33, 0.50]])
_TURF = np.array([[0.33, 0.48, 0.24], [0.42, 0.50, 0.28], [0.26, 0.40, 0.22], [0.52, 0.52, 0.32]])
_SAND = np.array([[0.70, 0.55, 0.40], [0.62, 0.45, 0.33], [0.76, 0.66, 0.52]])


@dataclass(frozen=True)
class Pose:
    """Where an object lies: centre, length in pixels, and direction of its front."""

    at: Point
    length: float
    angle: float

    def outline(self, points: object) -> Floats:
        """Points (P, 2) in units of the length, on the canvas."""
        return place(np.asarray(points, np.float64) * self.length, self.at, self.angle)

    def box(self, x: float, y: float, length: float, width: float) -> Floats:
        """A rectangle about (x, y), all in units of the length."""
        return self.outline(rectangle((x, y), length, width, 0))


# The parts of an outline, the height against the usual, and what paints the object.
Drawn = tuple[list[Floats], float, Callable[[], None]]


@dataclass(frozen=True)
class Kind:
    """A class of objects: how long, and how drawn."""

    lengths: tuple[float, float]  # pixels at the middle resolution
    draw: Callable[[np.random.Generator, Canvas, Setting, Pose], Drawn]
    follows_grid: bool = False


def draw_object(
    rng: np.random.Generator, canvas: Canvas, setting: Setting, name: str, site: NDArray[np.bool_] | None = None
) -> None:
    """An object at a random place, if that is free.

    Args:
        rng: Source of randomness.
        canvas: The scene.
        setting: Its resolution and sun.
        name: Class of the object.
        site: Where it may lie, (S, S); None for anywhere.
    """
    kind = KINDS[name]
    shortest, longest = (setting.shrink * end for end in LENGTHS)
    length = min(longest, max(shortest, setting.zoom * float(rng.uniform(*kind.lengths))))
    low = _INSIDE * length
    at = float(rng.uniform(low, canvas.size - low)), float(rng.uniform(low, canvas.size - low))
    free = ~canvas.taken if site is None else site & ~canvas.taken
    if not free[int(at[1]), int(at[0])]:
        return
    angle = setting.grid + int(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.04))
    if not kind.follows_grid and rng.random() < 0.7:
        angle = float(rng.uniform(0, 2 * np.pi))
    outlines, height, paint = kind.draw(rng, canvas, setting, Pose(at, length, angle))
    patches = []
    for outline in outlines:
        patch = canvas.cover(outline)
        if patch is None or not free[patch.area][patch.coverage > 0].all():
            return
        patches.append(patch)
    if height:
        for outline in outlines:
            cast_shadow(canvas, setting, outline, height)
    paint()
    canvas.own(patches, name)
    for patch in patches:
        canvas.occupy(patch, margin=round(_MARGIN * setting.shrink))


def _fill(canvas: Canvas, outline: Floats, colour: object) -> Patch | None:
    patch = canvas.cover(outline)
    if patch is not None:
        canvas.blend(patch, colour)
    return patch


def _mirrored(half: list[tuple[float, float]]) -> NDArray[np.float64]:
    """An outline that is symmetric about its long axis, from the half of it that has y >= 0."""
    points = np.array(half)
    return np.concatenate([points, points[::-1] * [1, -1]])


def _paint(rng: np.random.Generator, among: NDArray[np.float64] = _PAINTS) -> NDArray[np.float64]:
    return among[rng.integers(len(among))] * rng.uniform(0.85, 1.12) + rng.normal(0, 0.02, 3)


def _aircraft(rng: np.random.Generator, canvas: Canvas, setting: Setting, pose: Pose) -> Drawn:
    width, sweep, span = rng.uniform(0.12, 0.17), rng.uniform(0.02, 0.28), rng.uniform(0.38, 0.5)
    chord, tip = rng.uniform(0.2, 0.28), rng.uniform(0.08, 0.13)
    body = _mirrored([(0.5, 0), (0.46, 0.32 * width), (0.36, width / 2), (-0.28, width / 2), (-0.5, 0.12 * width)])
    root = rng.uniform(0.1, 0.2)
    wings = _mirrored([(root, 0), (root - sweep, span), (root - sweep - tip, span), (root - chord, 0)])
    tail = _mirrored([(-0.34, 0), (-0.4, 0.19), (-0.49, 0.19), (-0.48, 0)])
    parts = [pose.outline(points) for points in (wings, tail, body)]
    colour = _paint(rng)
    engines = [(root - 0.25 * sweep, side * rng.uniform(0.4, 0.5) * span) for side in (-1, 1)]

    def paint() -> None:
        for part, factor in zip(parts, (0.9, 0.9, 1.0), strict=True):
            _fill(canvas, part, colour * factor)
        _fill(canvas, pose.box(0, 0, 0.9, 0.3 * width), colour * 1.15)  # the light on its back
        for x, y in engines:
            _fill(canvas, pose.box(x, y, 0.1, 0.05), colour * 0.7)
        _fill(canvas, pose.box(0.43, 0, 0.04, 0.5 * width), (0.12, 0.14, 0.18))

    return parts, 0.5, paint


def _ship(rng: np.random.Generator, canvas: Canvas, setting: Setting, pose: Pose) -> Drawn:
    half, bow = rng.uniform(0.11, 0.17), rng.uniform(0.2, 0.36)
    hull = pose.outline(
        _mirrored([(0.5, 0), (0.5 - 0.4 * bow, 0.62 * half), (0.5 - bow, half), (-0.42, half), (-0.5, 0.75 * half)])
    )
    deck, bridge = _paint(rng), _paint(rng)
    cargo = rng.random() < 0.6
    count, astern = int(rng.integers(2, 5)), rng.random() < 0.7

    def paint() -> None:
        _fill(canvas, hull, deck * 0.75)
        inner = _mirrored([(0.45, 0), (0.5 - bow, 0.7 * half), (-0.45, 0.7 * half)])
        _fill(canvas, pose.outline(inner), deck)
        for number in range(count if cargo else 1):
            at = 0.24 - 0.5 * number / max(1, count - 1)
            _fill(canvas, pose.box(at, 0, 0.34 / count if cargo else 0.1, 1.1 * half), _paint(rng))
        _fill(canvas, pose.box(-0.37 if astern else 0.05, 0, 0.12, 1.3 * half), bridge * 1.1)

    return [hull], 0.25, paint


def _tank(rng: np.random.Generator, canvas: Canvas, setting: Setting, pose: Pose) -> Drawn:
    angles = np.arange(40) * (2 * np.pi / 40)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) / 2
    outline = pose.outline(circle)
    colour, floating = _paint(rng), rng.random() < 0.5
    lit = -np.array(setting.sun) / max(1e-6, float(np.hypot(*setting.sun)))
    shift = tuple(np.add(pose.at, lit * 0.06 * pose.length * (-1 if floating else 1)))

    def paint() -> None:
        _fill(canvas, outline, colour * (1.12 if floating else 0.9))
        roof = Pose((float(shift[0]), float(shift[1])), pose.length * 0.8, pose.angle)
        _fill(canvas, roof.outline(circle), colour * (0.8 if floating else 1.05))
        _fill(canvas, pose.box(0.25, 0, 0.5, 0.04), colour * 0.7)  # the stair
        _fill(canvas, Pose(pose.at, pose.length * 0.12, 0).outline(circle), colour * 0.75)

    return [outline], 1.0, paint


def _building(rng: np.random.Generator, canvas: Canvas, setting: Setting, pose: Pose) -> Drawn:
    deep = rng.uniform(0.28, 0.42)
    bar = (0.0, 0.0, 1.0, deep)
    plan = int(rng.integers(4))
    arm = rng.uniform(0.3, 0.45)
    at, side = 0.5 - deep / 2, (deep + arm) / 2 - 0.02
    wings = [[bar], [bar, (at, side, deep, arm)], [bar, (at, side, deep, arm), (-at, side, deep, arm)]]
    wings.append([bar, (0.0, side, deep, arm)])
    boxes = [(x, y - (0.5 * arm if plan else 0), length, width) for x, y, length, width in wings[plan]]
    if plan == 0:
        boxes = [(0.0, 0.0, 1.0, rng.uniform(0.45, 0.75))]
    parts = [pose.box(*box) for box in boxes]
    colour, gabled = _paint(rng), rng.random() < 0.5
    facing = float(np.cos(np.arctan2(setting.sun[1], setting.sun[0]) - pose.angle - np.pi / 2))
    units = rng.uniform(-0.4, 0.4, (int(rng.integers(0, 5)), 2))

    def paint() -> None:
        for part in parts:
            _fill(canvas, part, colour * (1 - 0.2 * facing if gabled else 1.18))
        for x, y, length, width in boxes:
            if gabled and length >= width:
                _fill(canvas, pose.box(x, y - width / 4, length, width / 2), colour * (1 + 0.2 * facing))
            elif gabled:
                _fill(canvas, pose.box(x - length / 4, y, length / 2, width), colour * 1.1)
            else:
                _fill(canvas, pose.box(x, y, length - 0.06, width - 0.06), colour)
        for along, across in () if gabled else units:
            x, y, length, width = boxes[0]
            _fill(canvas, pose.box(x + along * length, y + across * width, 0.08, 0.06), colour * 0.65)

    return parts, 1.3, paint


def _court(rng: np.random.Generator, canvas: Canvas, setting: Setting, pose: Pose) -> Drawn:
    wide = rng.uniform(0.5, 0.62)
    ground, field = _paint(rng, _COURTS), _paint(rng, _COURTS)
    line, basket = np.full(3, rng.uniform(0.8, 0.95)), rng.random() < 0.4
    outline = pose.box(0, 0, 1, wide)
    thick = max(0.018, 1.0 / pose.length)

    def frame(x: float, y: float, length: float, width: float, inside: object) -> None:
        _fill(canvas, pose.box(x, y, length, width), line)
        _fill(canvas, pose.box(x, y, length - 2 * thick, width - 2 * thick), inside)

    def paint() -> None:
        _fill(canvas, outline, ground)
        frame(0, 0, 0.8, 0.72 * wide, field)
        if basket:
            for side in (-1, 1):
                frame(side * 0.31, 0, 0.18, 0.3 * wide, ground)
        else:
            frame(0, 0, 0.44, 0.52 * wide, field)
            _fill(canvas, pose.box(0, 0, 0.44, thick), line)
        _fill(canvas, pose.box(0, 0, thick, 0.72 * wide), line)

    return [outline], 0.0, paint


def _diamond(rng: np.random.Generator, canvas: Canvas, setting: Setting, pose: Pose) -> Drawn:
    # The front is the way from the home plate to the middle of the outfield; the fan's centre of area is at zero.
    home, reach = -0.4, rng.uniform(0.68, 0.74)
    angles = np.linspace(-np.pi / 4, np.pi / 4, 13)
    arc = np.stack([home + reach * np.cos(angles), reach * np.sin(angles)], axis=1)
    outline = pose.outline(np.concatenate([[[home - 0.04, -0.04]], arc, [[home - 0.04, 0.04]]]))
    turf, sand = _paint(rng, _TURF), _paint(rng, _SAND)
    inner = 0.55 * reach

    def paint() -> None:
        _fill(canvas, outline, turf)
        near = np.stack([home + inner * np.cos(angles), inner * np.sin(angles)], axis=1)
        _fill(canvas, pose.outline(np.concatenate([[[home - 0.03, 0]], near])), sand)
        side = 0.3 * reach
        square = np.array([[0.05, 0], [side * 0.75, side * 0.68], [side * 1.4, 0], [side * 0.75, -side * 0.68]])
        _fill(canvas, pose.outline(np.add(square, [home, 0])), turf * 1.05)
        _fill(canvas, pose.box(home + 0.03, 0, 0.07, 0.07), sand)

    return [outline], 0.0, paint


KINDS = {
    "aircraft": Kind((34, 60), _aircraft),
    "ship": Kind((38, 62), _ship),
    "storage tank": Kind((24, 38), _tank),
    "building": Kind((34, 60), _building, follows_grid=True),
    "court": Kind((32, 52), _court, follows_grid=True),
    "diamond": Kind((38, 60), _diamond),
}
