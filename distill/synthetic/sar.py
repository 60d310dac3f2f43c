"""Radar scenes: ships in speckled sea, with coasts, piers and bright false alarms.

The canvas holds backscattered power relative to a calm sea; amplitude and speckle come last, as in a real product.
Azimuth runs along y. Axes: S side of the scene in pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.synthetic.canvas import (
    Canvas,
    Floats,
    Patch,
    Point,
    blob,
    fractal_noise,
    offset,
    place,
    random_point,
    rectangle,
)

_STARBOARD = np.array([[-0.5, 0.4], [-0.46, 0.5], [0.18, 0.5], [0.36, 0.34], [0.5, 0]])  # stern to bow, in lengths
_HULL = np.concatenate([_STARBOARD, _STARBOARD[-2::-1] * [1, -1]])


@dataclass(frozen=True)
class _Ship:
    at: Point
    length: float
    width: float
    heading: float


def draw_sar_scene(rng: np.random.Generator, size: int) -> Canvas:
    """A radar scene with `ship` objects; pixels are amplitudes in [0, 1], the same in all three channels."""
    canvas = Canvas(size)
    density = (size / 128) ** 2
    canvas.pixels[:] = _sea(rng, size)[:, :, None]
    if rng.random() < 0.45:
        _coast(rng, canvas, piers=max(1, round(rng.integers(1, 4) * density)))
    _false_alarms(rng, canvas, round(rng.integers(1, 7) * density))
    for _ in range(max(1, round(rng.integers(1, 7) * density))):
        _fleet(rng, canvas)
    return _image(rng, canvas)


def _sea(rng: np.random.Generator, size: int) -> Floats:
    wind = np.exp(rng.uniform(0.3, 0.8) * fractal_noise(rng, size, 64, 3))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle, wavelength = rng.uniform(0, np.pi), rng.uniform(5, 14)
    phase = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / wavelength) + 1.5 * fractal_noise(rng, size, 32, 2)
    return (wind * (1 + rng.uniform(0, 0.4) * np.sin(phase))).astype(np.float32)


def _coast(rng: np.random.Generator, canvas: Canvas, piers: int) -> None:
    """Land on one side, and piers that reach from it into the sea."""
    size = canvas.size
    y, x = np.mgrid[:size, :size] / size - 0.5
    inland = rng.uniform(0, 2 * np.pi)
    field = x * np.cos(inland) + y * np.sin(inland) - rng.uniform(0.1, 0.4)
    land = (field + 0.09 * fractal_noise(rng, size, 48, 4) > 0).astype(np.uint8)
    canvas.pixels[land > 0] = _land_power(rng, size)[land > 0][:, None]
    square = np.ones((3, 3), np.uint8)
    canvas.taken |= cv2.dilate(land, square) > 0
    shore: NDArray[np.intp] = np.argwhere(land > cv2.erode(land, square))
    for row, column in rng.permutation(shore)[:piers]:
        heading = inland + np.pi + rng.normal(0, 0.1)
        length, width = rng.uniform(14, 36), rng.uniform(2.5, 5.5)
        centre = offset((float(column), float(row)), heading, length * 0.4, 0)
        patch = canvas.cover(rectangle(centre, length, width, heading))
        if patch is not None:
            canvas.blend(patch, rng.uniform(5, 14))
            canvas.occupy(patch)


def _land_power(rng: np.random.Generator, size: int) -> Floats:
    rough = np.exp(0.7 * fractal_noise(rng, size, 24, 4, 0.7))
    corners = (rng.random((size, size), dtype=np.float32) > 0.985).astype(np.float32)
    strength = rng.uniform(5, 25) * rng.random((size, size), dtype=np.float32)
    built = cv2.dilate(corners, np.ones((2, int(rng.integers(2, 4))), np.uint8)) * strength
    return (rng.uniform(2, 5) * rough + built).astype(np.float32)


def _false_alarms(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Islets, platforms, buoys and breaking waves: as bright as ships, but of another shape."""
    for kind in rng.integers(0, 4, count):
        at = random_point(rng, 0, canvas.size)
        if kind == 0:
            outline = blob(rng, at, rng.uniform(2.5, 7), 0.4)
        elif kind == 1:
            side = rng.uniform(4, 7)
            outline = rectangle(at, side, side * 0.9, rng.uniform(0, np.pi))
        elif kind == 2:
            outline = blob(rng, at, rng.uniform(0.8, 1.5))
        else:
            outline = rectangle(at, rng.uniform(12, 30), rng.uniform(1, 2), rng.uniform(0, np.pi))
        patch = canvas.cover(outline)
        if patch is None or not canvas.is_free(patch):
            continue
        strength = rng.uniform(2, 5) if kind == 3 else rng.uniform(4, 24)
        canvas.blend(patch, strength * rng.uniform(0.4, 1.6, (*patch.coverage.shape, 1)))
        canvas.occupy(patch, margin=2)
        if kind == 1:
            _side_lobes(canvas, at, strength * 8)


def _fleet(rng: np.random.Generator, canvas: Canvas) -> None:
    """One ship under way, or a few moored side by side."""
    moored = rng.random() < 0.25
    length = float(np.clip(rng.lognormal(3.5, 0.4), 16, 80))
    width = max(5.0, length / rng.uniform(2.8, 4.8))
    first, heading = random_point(rng, 2, canvas.size - 2), float(rng.uniform(0, 2 * np.pi))
    for berth in range(int(rng.integers(2, 4)) if moored else 1):
        at = offset(first, heading, 0, berth * (width + rng.uniform(1.5, 3)))
        ship = _Ship(at, length * float(rng.uniform(0.85, 1)), width, heading)
        hull = canvas.cover(place(_HULL * [ship.length, width], at, heading))
        if hull is None or not canvas.is_free(hull) or (hull.coverage >= 0.5).sum() < 12:
            continue
        if not moored and rng.random() < 0.6:
            _wake(rng, canvas, ship)
        _draw_ship(rng, canvas, ship, hull, moving=not moored)
        canvas.own([hull], "ship")
        canvas.occupy(hull, margin=1)


def _draw_ship(rng: np.random.Generator, canvas: Canvas, ship: _Ship, hull: Patch, moving: bool) -> None:
    """Adds the hull's return: a bright ridge, superstructures with side lobes, and what motion does to them."""
    rows, columns = np.mgrid[hull.rows, hull.columns].astype(np.float32) + np.float32(0.5)
    dx, dy = columns - ship.at[0], rows - ship.at[1]
    along = dx * np.cos(ship.heading) + dy * np.sin(ship.heading)
    across = dy * np.cos(ship.heading) - dx * np.sin(ship.heading)
    base = float(np.clip(rng.lognormal(1.3, 0.6), 1.4, 18))
    power = base * (0.45 + 1.1 * np.exp(-((across / ship.width - rng.uniform(-0.35, 0.35)) ** 2) / 0.05))
    power *= 1 + 0.4 * np.sin(along / ship.length * rng.uniform(8, 30) + rng.uniform(0, 6))
    superstructures = []
    for share in rng.uniform(-0.42, 0.34, int(rng.integers(1, 5))):
        u, v, strength = share * ship.length, rng.uniform(-0.2, 0.2) * ship.width, base * rng.uniform(2, 11)
        power += strength * np.exp(-((along - u) ** 2 + (across - v) ** 2) / 1.8)
        superstructures.append((offset(ship.at, ship.heading, u, v), strength))
    before = canvas.pixels[hull.area].copy()
    canvas.blend(hull, power[:, :, None].clip(0.2))
    if moving:
        _azimuth_echoes(rng, canvas, hull, (canvas.pixels[hull.area] - before)[:, :, 0].clip(0))
    for at, strength in superstructures:
        if strength > 45:
            _side_lobes(canvas, at, strength)


def _azimuth_echoes(rng: np.random.Generator, canvas: Canvas, hull: Patch, gain: Floats) -> None:
    """Motion during the aperture smears the return along azimuth; undersampling repeats it faintly at a distance."""
    layer = np.zeros((canvas.size, canvas.size), np.float32)
    layer[hull.area] = gain
    echo = rng.uniform(0.02, 0.12) * cv2.blur(layer, (1, int(rng.integers(3, 14)) * 2 + 1))
    if rng.random() < 0.4:
        shift = int(rng.integers(22, 45)) * (1 if rng.random() < 0.5 else -1)
        ghost = np.roll(layer, shift, axis=0)
        ghost[: max(0, shift)] = 0
        ghost[canvas.size + min(0, shift) :] = 0
        echo += rng.uniform(0.03, 0.12) * cv2.blur(ghost, (1, 5))
    canvas.pixels += echo[:, :, None]


def _wake(rng: np.random.Generator, canvas: Canvas, ship: _Ship) -> None:
    """A dark turbulent strip astern between two bright arms."""
    reach, stern = ship.length * rng.uniform(0.8, 2), -0.5 * ship.length
    centre = offset(ship.at, ship.heading, stern - reach / 2, 0)
    strips = [(rectangle(centre, reach, ship.width * 0.6, ship.heading), rng.uniform(0.4, 0.75))]
    for side in (-1, 1):
        near, far = side * ship.width * 0.3, side * (ship.width * 0.3 + reach * 0.25)
        arm = [[stern, near], [stern - reach, far], [stern - reach, far + side * 1.6], [stern, near + side * 1.6]]
        strips.append((place(np.array(arm), ship.at, ship.heading), rng.uniform(1.3, 2.2)))
    for polygon, factor in strips:
        patch = canvas.cover(polygon)
        if patch is not None:
            canvas.shade(patch, factor)


def _side_lobes(canvas: Canvas, at: Point, strength: float) -> None:
    """The cross that a compressed pulse leaves around a very strong scatterer."""
    column, row = int(at[0]), int(at[1])
    if not (0 <= column < canvas.size and 0 <= row < canvas.size):
        return
    steps = np.arange(canvas.size, dtype=np.float32)
    for line, centre in ((canvas.pixels[row], column), (canvas.pixels[:, column], row)):
        distance = np.abs(steps - centre)
        line += (strength * 0.05 / (1 + distance**2 / 4) * (distance < 14))[:, None]


def _image(rng: np.random.Generator, canvas: Canvas) -> Canvas:
    """Speckle, the system's resolution, and amplitude scaled to the display."""
    looks = float(rng.choice([1, 2, 3, 4, 6, 10]))
    noise = rng.gamma(looks, 1 / looks, (canvas.size, canvas.size)).astype(np.float32)
    blurred = cv2.GaussianBlur(canvas.pixels[:, :, 0] * noise, (0, 0), rng.uniform(0.35, 0.75))
    amplitude = rng.uniform(0.13, 0.3) * np.sqrt(blurred + 0.02) + rng.uniform(0, 0.06)
    canvas.pixels[:] = amplitude.clip(0, 1)[:, :, None]
    return canvas
