"""Buildings in an aerial photograph: one wing or two, with gabled or flat roofs.

Lengths that are multiplied by `Setting.scale` are metres, others are pixels.
"""

from dataclasses import dataclass

import numpy as np

from distill.synthetic.canvas import Canvas, Floats, Patch, Point, offset, random_point, rectangle
from distill.synthetic.setting import Setting, cast_shadow

_ROOFS = np.array(
    [
        [0.58, 0.32, 0.25],  # tiles
        [0.49, 0.27, 0.22],
        [0.62, 0.60, 0.57],  # gravel
        [0.80, 0.79, 0.76],  # white membrane
        [0.36, 0.36, 0.38],  # bitumen
        [0.37, 0.47, 0.58],  # blue sheet metal
        [0.50, 0.44, 0.37],
        [0.44, 0.50, 0.44],
    ]
)


@dataclass(frozen=True)
class _Wing:
    """A rectangular part of a building."""

    at: Point
    length: float
    width: float
    angle: float

    @property
    def outline(self) -> Floats:
        return rectangle(self.at, self.length, self.width, self.angle)


def draw_building(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    """A building at a random place, if that is free: one wing or two, gabled or flat."""
    angle = setting.grid + float(rng.normal(0, 0.03) if rng.random() < 0.8 else rng.uniform(0, np.pi))
    at = random_point(rng, 0, canvas.size)
    length = min(72.0, setting.scale * float(rng.uniform(8, 24)))
    width = float(np.clip(length * rng.uniform(0.4, 0.85), 12, 54))
    wings = [_Wing(at, length, width, angle)]
    if rng.random() < 0.4:
        depth, side = width * float(rng.uniform(0.7, 1.1)), 1 if rng.random() < 0.5 else -1
        along = float(rng.uniform(-0.5, 0.5)) * (length - depth * 0.7)
        wings.append(_Wing(offset(at, angle, along, side * (width + depth) * 0.45), depth * 0.7, depth, angle))
    patches = [patch for patch in (canvas.cover(wing.outline) for wing in wings) if patch is not None]
    if len(patches) < len(wings) or not all(map(canvas.is_free, patches)):
        return
    height = float(rng.uniform(3, 12))
    for wing in wings:
        cast_shadow(canvas, setting, wing.outline, height)
    roof = _ROOFS[rng.integers(len(_ROOFS))] * rng.uniform(0.8, 1.15)
    draw_roof = _gable if rng.random() < 0.5 else _flat_roof
    for wing, patch in zip(wings, patches, strict=True):
        draw_roof(rng, canvas, setting, wing, patch, roof)
    canvas.own(patches, "building")
    for patch in patches:
        canvas.occupy(patch, margin=2)


def _gable(rng: np.random.Generator, canvas: Canvas, setting: Setting, wing: _Wing, patch: Patch, roof: Floats) -> None:
    """Two slopes along the longer side, the one that faces the sun brighter."""
    length, width, angle = wing.length, wing.width, wing.angle
    if width > length:
        length, width, angle = width, length, angle + np.pi / 2
    facing = float(np.cos(np.arctan2(setting.sun[1], setting.sun[0]) - angle - np.pi / 2))
    canvas.blend(patch, roof * (1 - 0.24 * facing) * rng.uniform(0.94, 1.06, (*patch.coverage.shape, 1)))
    slope = canvas.cover(rectangle(offset(wing.at, angle, 0, -width / 4), length, width / 2, angle))
    if slope is not None:
        canvas.blend(slope, roof * (1 + 0.24 * facing) * rng.uniform(0.94, 1.06, (*slope.coverage.shape, 1)))
    ridge = canvas.cover(rectangle(wing.at, length, 0.8, angle))
    if ridge is not None:
        canvas.blend(ridge, roof * 1.25)


def _flat_roof(
    rng: np.random.Generator, canvas: Canvas, setting: Setting, wing: _Wing, patch: Patch, roof: Floats
) -> None:
    """A parapet around a weathered surface with a few installations."""
    canvas.blend(patch, roof * 1.18)
    inner = canvas.cover(rectangle(wing.at, wing.length - 3, wing.width - 3, wing.angle))
    if inner is not None:
        canvas.blend(inner, roof * rng.uniform(0.93, 1.07, (*inner.coverage.shape, 1)))
    for _ in range(int(rng.integers(0, 5))):
        along, across = rng.uniform(-0.35, 0.35, 2) * [wing.length, wing.width]
        centre = offset(wing.at, wing.angle, along, across)
        outline = rectangle(centre, rng.uniform(1.5, 4.5), rng.uniform(1.5, 4.5), wing.angle)
        unit = canvas.cover(outline)
        if unit is not None:
            cast_shadow(canvas, setting, outline, 1.0)
            canvas.blend(unit, rng.uniform(0.55, 0.85))
