"""The ground of a scene: land and water of many kinds, streets, quays, and small things that are no objects."""

import numpy as np
from numpy.typing import NDArray

from distill.synthetic.canvas import Canvas, Floats, Patch, blob, fractal_noise, offset, random_point, rectangle
from distill.synthetic.setting import USUAL_SIZE, Setting, cast_shadow

GROUNDS = np.array(
    [
        [0.33, 0.41, 0.23],  # grass
        [0.46, 0.47, 0.29],  # dry grass
        [0.55, 0.48, 0.36],  # sand
        [0.42, 0.38, 0.31],  # soil
        [0.27, 0.34, 0.21],  # crop
        [0.58, 0.56, 0.50],  # gravel
        [0.50, 0.50, 0.50],  # concrete
        [0.36, 0.36, 0.37],  # asphalt
        [0.66, 0.63, 0.58],  # pale concrete
    ]
)
_WATERS = np.array([[0.10, 0.20, 0.28], [0.16, 0.28, 0.30], [0.22, 0.30, 0.26], [0.08, 0.13, 0.20]])
_SMALL_PAINTS = np.array(
    [[0.9, 0.9, 0.9], [0.14, 0.14, 0.16], [0.62, 0.13, 0.12], [0.16, 0.24, 0.48], [0.6, 0.6, 0.62]]
)


def draw_land(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    """Two kinds of ground mixed, fields with or without rows, and streets."""
    size = canvas.size
    first, second = GROUNDS[rng.choice(len(GROUNDS), 2, replace=False)]
    mix = (0.5 + rng.uniform(0.2, 1.0) * fractal_noise(rng, size, 64, 3)).clip(0, 1)[:, :, None]
    canvas.pixels[:] = first * (1 - mix) + second * mix
    for _ in range(int(rng.integers(0, 4))):
        _field(rng, canvas, setting)
    canvas.pixels *= 1 + rng.uniform(0.05, 0.2) * fractal_noise(rng, size, 16, 4, 0.8)[:, :, None]
    for number in range(int(rng.integers(0, 3))):
        _street(rng, canvas, setting, setting.grid + number * np.pi / 2)


def draw_water(rng: np.random.Generator, canvas: Canvas, setting: Setting, everywhere: bool) -> NDArray[np.bool_]:
    """Water over a side of the scene, behind a quay, or over all of it; returns where (S, S)."""
    size = canvas.size
    centre, angle = (size / 2, size / 2), float(rng.uniform(0, 2 * np.pi))
    shore = -size if everywhere else float(rng.uniform(-0.25, 0.1)) * size
    patch = canvas.cover(rectangle(offset(centre, angle, shore + size, 0), 2 * size, 4 * size, angle))
    assert patch is not None
    swell = fractal_noise(rng, size, int(rng.choice([8, 16, 32])), 3, 0.7)[patch.area][:, :, None]
    colour = _WATERS[rng.integers(len(_WATERS))] * rng.uniform(0.8, 1.3)
    canvas.blend(patch, colour * (1 + rng.uniform(0.05, 0.3) * swell))
    water = np.zeros((size, size), bool)
    water[patch.area] = patch.coverage > 0
    if not everywhere:
        edge = canvas.cover(rectangle(offset(centre, angle, shore, 0), 4 * setting.zoom, 4 * size, angle))
        _paint(canvas, edge, rng.uniform(0.5, 0.75), water)
        for _ in range(int(rng.integers(0, 3))):  # piers
            at = offset(centre, angle, shore, float(rng.uniform(-0.5, 0.5)) * size)
            pier = canvas.cover(rectangle(at, rng.uniform(40, 80), rng.uniform(4, 8) * setting.zoom, angle))
            _paint(canvas, pier, rng.uniform(0.4, 0.7), water)
    return water


def draw_small_things(rng: np.random.Generator, canvas: Canvas, setting: Setting, land: NDArray[np.bool_]) -> None:
    """Trees, vehicles, ponds and pads, much smaller than the objects or flat, wherever the land is free."""
    density = max(1.0, canvas.size / USUAL_SIZE) ** 2
    for _ in range(round(int(rng.integers(0, 3)) * density)):
        radius = rng.uniform(5, 14) * setting.zoom
        at = random_point(rng, 0, canvas.size)
        shape = blob(rng, at, radius) if rng.random() < 0.5 else rectangle(at, 2 * radius, radius, setting.grid)
        colour = (_WATERS if rng.random() < 0.4 else GROUNDS)[rng.integers(4)] * rng.uniform(0.8, 1.2)
        _put(canvas, shape, colour, land)
    for _ in range(round(int(rng.integers(0, 14)) * density)):
        outline = rectangle(random_point(rng, 0, canvas.size), 5 * setting.zoom, 2.4 * setting.zoom, setting.grid)
        _put(canvas, outline, _SMALL_PAINTS[rng.integers(len(_SMALL_PAINTS))], land)
    for _ in range(round(int(rng.choice([0, 0, 4, 12, 30])) * density)):
        outline = blob(rng, random_point(rng, 0, canvas.size), rng.uniform(2.5, 6) * setting.zoom)
        crown = canvas.cover(outline)
        if crown is not None and canvas.is_free(crown) and land[crown.area][crown.coverage > 0].all():
            cast_shadow(canvas, setting, outline, 0.6)
            green = np.array([0.17, 0.28, 0.13]) * rng.uniform(0.7, 1.35)
            canvas.blend(crown, green * rng.uniform(0.75, 1.25, (*crown.coverage.shape, 1)))


def _field(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    at, length, width = random_point(rng, 0, canvas.size), rng.uniform(40, 120), rng.uniform(40, 120)
    patch = canvas.cover(rectangle(at, length, width, setting.grid))
    if patch is None:
        return
    colour = GROUNDS[rng.integers(len(GROUNDS))] * rng.uniform(0.85, 1.15)
    if rng.random() < 0.4:  # rows of a crop, joints of concrete
        y, x = np.mgrid[patch.area].astype(np.float32)
        across = x * np.cos(setting.grid) + y * np.sin(setting.grid)
        rows = np.sin(across * (2 * np.pi / (rng.uniform(4, 9) * setting.zoom)))
        colour = colour * (1 + rng.uniform(0.05, 0.15) * rows[:, :, None])
    canvas.blend(patch, colour)


def _street(rng: np.random.Generator, canvas: Canvas, setting: Setting, angle: float) -> None:
    at, reach = random_point(rng, 0, canvas.size), 1.5 * canvas.size
    width, asphalt = rng.uniform(7, 14) * setting.zoom, rng.uniform(0.3, 0.5)
    for grow, grey in ((2.5, asphalt * 1.35), (0.0, asphalt)):
        patch = canvas.cover(rectangle(at, 2 * reach, width + grow, angle))
        if patch is None:
            return
        canvas.blend(patch, grey)
        canvas.occupy(patch)
    for step in np.arange(-reach, reach, 12 * setting.zoom):
        x, y = offset(at, angle, float(step), 0)
        dash = canvas.cover(rectangle((x, y), 6 * setting.zoom, 0.8, angle)) if min(x, y) > 0 else None
        if dash is not None:
            canvas.blend(dash, asphalt + 0.35)


def _put(canvas: Canvas, outline: Floats, colour: object, land: NDArray[np.bool_]) -> None:
    patch = canvas.cover(outline)
    if patch is not None and canvas.is_free(patch) and land[patch.area][patch.coverage > 0].all():
        canvas.blend(patch, colour)


def _paint(canvas: Canvas, patch: Patch | None, grey: float, water: NDArray[np.bool_]) -> None:
    if patch is not None:
        canvas.blend(patch, grey)
        water[patch.area] &= patch.coverage == 0
