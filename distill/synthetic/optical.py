"""Aerial photographs: the ground with fields, roads and parking lots, what stands on it, and the camera.

The canvas holds display colours in [0, 1]. Axes: S side of the scene in pixels.
"""

import cv2
import numpy as np

from distill.synthetic.buildings import draw_building
from distill.synthetic.canvas import Canvas, Point, fractal_noise, offset, random_point, rectangle
from distill.synthetic.setting import Setting
from distill.synthetic.small_things import draw_look_alike, draw_tree, draw_vehicle

_GROUNDS = np.array(
    [
        [0.33, 0.41, 0.23],  # grass
        [0.46, 0.47, 0.29],  # dry grass
        [0.55, 0.48, 0.36],  # sand
        [0.42, 0.38, 0.31],  # soil
        [0.27, 0.34, 0.21],  # crop
        [0.58, 0.56, 0.50],  # gravel
    ]
)

Stand = tuple[Point, float]  # where a vehicle may stand, and where it points


def draw_optical_scene(rng: np.random.Generator, size: int) -> Canvas:
    """An optical scene with `building` and `vehicle` objects; pixels are colours in [0, 1]."""
    canvas = Canvas(size)
    scale = float(rng.uniform(2.4, 4.0))
    azimuth, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.9) * scale
    setting = Setting(
        grid=float(rng.uniform(0, np.pi)),
        scale=scale,
        sun=(length * float(np.cos(azimuth)), length * float(np.sin(azimuth))),
    )
    density = (size / 128) ** 2
    _ground(rng, canvas, setting)
    stands = _roads(rng, canvas, setting)
    for _ in range(round(rng.integers(0, 4) * density)):
        stands += _parking_lot(rng, canvas, setting)
    for _ in range(round(rng.integers(0, 4) * density)):
        draw_look_alike(rng, canvas, setting)
    for _ in range(round(rng.integers(10, 36) * density)):  # attempts: most places are taken
        draw_building(rng, canvas, setting)
    canvas.taken &= canvas.owner > 0  # roads and lots are no obstacle to vehicles, buildings are
    for _ in range(int(rng.integers(0, 3))):
        stands.append((random_point(rng, 0, size), float(rng.uniform(0, 2 * np.pi))))
    for at, angle in stands:
        draw_vehicle(rng, canvas, setting, at, angle)
    for _ in range(round(rng.integers(0, 8) * density)):
        draw_tree(rng, canvas, setting)
    return _camera(rng, canvas)


def _ground(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> None:
    size = canvas.size
    first, second = _GROUNDS[rng.choice(len(_GROUNDS), 2, replace=False)]
    mix = (0.5 + 0.8 * fractal_noise(rng, size, 64, 3)).clip(0, 1)[:, :, None]
    canvas.pixels[:] = first * (1 - mix) + second * mix
    for _ in range(int(rng.integers(0, 4))):
        at, length, width = random_point(rng, 0, size), rng.uniform(40, 110), rng.uniform(40, 110)
        patch = canvas.cover(rectangle(at, length, width, setting.grid))
        if patch is not None:
            canvas.blend(patch, _GROUNDS[rng.integers(len(_GROUNDS))])
    canvas.pixels *= 1 + 0.16 * fractal_noise(rng, size, 16, 4, 0.8)[:, :, None]


def _roads(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> list[Stand]:
    """Draws streets along and across the grid; returns places on their lanes."""
    size, reach = canvas.size, canvas.size * 1.5
    asphalt = rng.uniform(0.32, 0.52) * np.array([1, 1, rng.uniform(0.98, 1.06)])
    along, across = offset((0, 0), setting.grid, 1, 0), offset((0, 0), setting.grid, 0, 1)
    streets: list[tuple[Point, float, float]] = []
    for number in range(int(rng.integers(1, 4))):
        at, crossing = random_point(rng, 0.1 * size, 0.9 * size), number % 2
        normal = along if crossing else across
        gaps = [abs((at[0] - x) * normal[0] + (at[1] - y) * normal[1]) for (x, y), _, _ in streets[crossing::2]]
        if not gaps or min(gaps) > 0.35 * size:  # parallel streets keep room for a block of houses
            streets.append((at, setting.grid + crossing * np.pi / 2, rng.uniform(6, 9) * setting.scale))
    for grow, colour in ((2.5, asphalt * 1.35), (0.0, asphalt)):  # all kerbs first, so that crossings stay open
        for at, angle, width in streets:
            patch = canvas.cover(rectangle(at, 2 * reach, width + grow, angle))
            if patch is not None:
                canvas.blend(patch, colour)
                canvas.occupy(patch)
    stands: list[Stand] = []
    for at, angle, width in streets:
        period = rng.uniform(4, 7) * setting.scale
        for step in np.arange(-reach, reach, period):
            dash = canvas.cover(rectangle(offset(at, angle, step, 0), period * 0.5, 0.8, angle))
            if dash is not None:
                canvas.blend(dash, asphalt + 0.35)
        for side in (-1, 1):
            for step in rng.uniform(-reach, reach, int(rng.integers(2, 9) * size / 128)):
                place = offset(at, angle, step, side * width / 4 + rng.normal(0, 0.8))
                stands.append((place, angle + (np.pi if side > 0 else 0) + float(rng.normal(0, 0.04))))
    return stands


def _parking_lot(rng: np.random.Generator, canvas: Canvas, setting: Setting) -> list[Stand]:
    """Draws a lot with marked stalls where there is room; returns the stalls that are in use."""
    stall, depth = 2.9 * setting.scale, 5.6 * setting.scale
    count, rows = int(rng.integers(4, 9)), int(rng.integers(1, 3))
    at = random_point(rng, 0.1 * canvas.size, 0.9 * canvas.size)
    patch = canvas.cover(rectangle(at, count * stall + 4, rows * depth * 1.25 + 4, setting.grid))
    if patch is None or not canvas.is_free(patch):
        return []
    grey, demand = rng.uniform(0.38, 0.6), rng.uniform(0.3, 0.9)
    canvas.blend(patch, grey * np.array([1.0, 0.99, 0.97]))
    canvas.occupy(patch)
    stands: list[Stand] = []
    for row in range(rows):
        across = (row - (rows - 1) / 2) * depth * 1.25
        for position in range(count + 1):
            along = (position - count / 2) * stall
            line = canvas.cover(rectangle(offset(at, setting.grid, along, across), 0.7, depth, setting.grid))
            if line is not None:
                canvas.blend(line, grey + 0.3)
            if position < count and rng.random() < demand:
                turn = np.pi / 2 if rng.random() < 0.5 else -np.pi / 2
                stands.append((offset(at, setting.grid, along + stall / 2, across), setting.grid + turn))
    return stands


def _camera(rng: np.random.Generator, canvas: Canvas) -> Canvas:
    """Haze, exposure, colour cast, blur and sensor noise."""
    haze, exposure = rng.uniform(0, 0.16), rng.uniform(0.85, 1.4)
    cast = 1 + rng.normal(0, 0.04, 3)
    pixels = canvas.pixels * (exposure * cast * (1 - haze)) + haze * np.array([0.62, 0.66, 0.72])
    blurred = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(blurred.shape, dtype=np.float32) * np.float32(rng.uniform(0.008, 0.045))
    canvas.pixels[:] = (blurred + noise).clip(0, 1)
    return canvas
