"""What stands in an aerial photograph: buildings, vehicles, trees, and look-alikes of the first two.

Shadows fall along one direction per scene, so flat look-alikes (a concrete pad, a pool) differ from the real thing.
Lengths that are multiplied by `Setting.scale` are metres, others are pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from distill.synthetic.canvas import Canvas, Floats, Patch, Point, blob, offset, random_point, rectangle

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
_PAINTS = np.array(
    [
        [0.90, 0.90, 0.90],
        [0.14, 0.14, 0.16],
        [0.66, 0.67, 0.69],
        [0.62, 0.13, 0.12],
        [0.16, 0.24, 0.48],
        [0.40, 0.41, 0.43],
        [0.77, 0.72, 0.58],
    ]
)
_CONTAINERS = np.array([[0.62, 0.28, 0.16], [0.20, 0.38, 0.52], [0.28, 0.45, 0.30], [0.70, 0.58, 0.22]])
_GLASS = (0.13, 0.16, 0.2)
_SHADOW = (0.42, 0.45, 0.52)


@dataclass(frozen=True)
class Setting:
    """What holds for a whole scene."""

    grid: float  # direction of streets, radians
    scale: float  # pixels per metre
    sun: tuple[float, float]  # shadow cast per metre of height, in pixels


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
        _cast_shadow(canvas, setting, wing.outline, height)
    roof = _ROOFS[rng.integers(len(_ROOFS))] * rng.uniform(0.8, 1.15)
    draw_roof = _gable if rng.random() < 0.5 else _flat_roof
    for wing, patch in zip(wings, patches, strict=True):
        draw_roof(rng, canvas, setting, wing, patch, roof)
    canvas.own(patches, "building")
    for patch in patches:
        canvas.occupy(patch, margin=2)


def draw_vehicle(rng: np.random.Generator, canvas: Canvas, setting: Setting, at: Point, angle: float) -> None:
    """A car, lorry or bus, if the place is free."""
    is_long = rng.random() < 0.12
    length = max(6.0, setting.scale * (rng.uniform(7, 11) if is_long else rng.uniform(3.9, 5)))
    width = max(2.8, setting.scale * (2.5 if is_long else 1.9))
    outline = rectangle(at, length, width, angle)
    body = canvas.cover(outline)
    if body is None or not canvas.is_free(body) or (body.coverage >= 0.5).sum() < 8:
        return
    _cast_shadow(canvas, setting, outline, 2.8 if is_long else 1.4)
    canvas.blend(body, _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.85, 1.1))
    for position, share in ((0.32, 0.05),) if is_long else ((0.2, 0.13), (-0.3, 0.09)):
        centre = offset(at, angle, position * length, 0)
        glass = canvas.cover(rectangle(centre, share * length, width * 0.78, angle))
        if glass is not None:
            canvas.blend(glass, _GLASS)
    canvas.own([body], "vehicle")
    canvas.occupy(body, margin=1)


def draw_look_alike(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    """A concrete pad, a pool or a container, if the place is free: neither building nor vehicle."""
    kind, angle = int(rng.integers(3)), setting.grid + float(rng.normal(0, 0.15))
    at = random_point(rng, 0, canvas.size)
    length = setting.scale * (rng.uniform(6, 16) if kind < 2 else 6.1)
    width = length * rng.uniform(0.45, 0.9) if kind < 2 else setting.scale * 2.5
    outline = rectangle(at, length, width, angle)
    patch = canvas.cover(outline)
    if patch is None or not canvas.is_free(patch):
        return
    if kind == 0:
        canvas.blend(patch, rng.uniform(0.5, 0.75) * np.array([1, 0.98, 0.94]))
    elif kind == 1:
        rim = canvas.cover(rectangle(at, length + 2, width + 2, angle))
        canvas.blend(rim or patch, (0.75, 0.74, 0.7))
        canvas.blend(patch, np.array([0.2, 0.52, 0.62]) * rng.uniform(0.8, 1.2))
    else:
        _cast_shadow(canvas, setting, outline, 2.6)
        canvas.blend(patch, _CONTAINERS[rng.integers(len(_CONTAINERS))] * rng.uniform(0.8, 1.2))
        for rib in np.linspace(-0.42, 0.42, 5):
            line = canvas.cover(rectangle(offset(at, angle, rib * length, 0), 0.6, width, angle))
            if line is not None:
                canvas.shade(line, 0.7)
    canvas.occupy(patch, margin=1)


def draw_tree(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    """A crown, lit from the sun's side; it hides what it covers, but not a whole car."""
    at = random_point(rng, 0, canvas.size)
    radius = setting.scale * rng.uniform(1.2, 3.4)
    outline = blob(rng, at, radius)
    crown = canvas.cover(outline)
    if crown is None or (canvas.owner[crown.area] > 0).mean() > 0.25:
        return
    _cast_shadow(canvas, setting, outline, 2.5)
    green = np.array([0.17, 0.28, 0.13]) * rng.uniform(0.7, 1.35)
    canvas.blend(crown, green * rng.uniform(0.75, 1.25, (*crown.coverage.shape, 1)))
    shift = radius * 0.35 / np.hypot(*setting.sun)
    lit = canvas.cover(blob(rng, (at[0] - shift * setting.sun[0], at[1] - shift * setting.sun[1]), radius * 0.5))
    if lit is not None:
        canvas.blend(lit, green * 1.6 * rng.uniform(0.8, 1.2, (*lit.coverage.shape, 1)))
    canvas.hide(crown)


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
            _cast_shadow(canvas, setting, outline, 1.0)
            canvas.blend(unit, rng.uniform(0.55, 0.85))


def _cast_shadow(canvas: Canvas, setting: Setting, outline: Floats, height: float) -> None:
    """Darkens what an outline, raised by `height` metres, keeps from the sun."""
    shifted = outline + np.array(setting.sun, np.float32) * np.float32(height)
    hull = cv2.convexHull(np.concatenate([outline, shifted]))[:, 0]
    patch = canvas.cover(hull)
    if patch is not None:
        canvas.shade(patch, _SHADOW)
