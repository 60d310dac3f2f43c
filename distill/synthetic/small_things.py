"""Vehicles and trees in an aerial photograph, and things that look like buildings or vehicles and are neither.

Shadows fall along one direction per scene, so flat look-alikes (a concrete pad, a pool) differ from the real thing.
Lengths that are multiplied by `Setting.scale` are metres, others are pixels.
"""

import numpy as np

from distill.synthetic.canvas import Canvas, Point, blob, offset, random_point, rectangle
from distill.synthetic.setting import Setting, cast_shadow

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


def draw_vehicle(rng: np.random.Generator, canvas: Canvas, setting: Setting, at: Point, angle: float) -> None:
    """A car, lorry or bus, if the place is free."""
    is_long = rng.random() < 0.12
    length = max(6.0, setting.scale * (rng.uniform(7, 11) if is_long else rng.uniform(3.9, 5)))
    width = max(2.8, setting.scale * (2.5 if is_long else 1.9))
    outline = rectangle(at, length, width, angle)
    body = canvas.cover(outline)
    if body is None or not canvas.is_free(body) or (body.coverage >= 0.5).sum() < 8:
        return
    cast_shadow(canvas, setting, outline, 2.8 if is_long else 1.4)
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
        cast_shadow(canvas, setting, outline, 2.6)
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
    cast_shadow(canvas, setting, outline, 2.5)
    green = np.array([0.17, 0.28, 0.13]) * rng.uniform(0.7, 1.35)
    canvas.blend(crown, green * rng.uniform(0.75, 1.25, (*crown.coverage.shape, 1)))
    shift = radius * 0.35 / np.hypot(*setting.sun)
    lit = canvas.cover(blob(rng, (at[0] - shift * setting.sun[0], at[1] - shift * setting.sun[1]), radius * 0.5))
    if lit is not None:
        canvas.blend(lit, green * 1.6 * rng.uniform(0.8, 1.2, (*lit.coverage.shape, 1)))
    canvas.hide(crown)
