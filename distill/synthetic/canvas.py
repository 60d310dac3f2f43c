"""Drawing with exact masks: anti-aliased shapes on a float image that remembers which object owns which pixel.

Axes: S side of the square scene in pixels, P corners of a polygon. A point (x, y) counts pixels from the top left
corner of the image, so that the centre of the first pixel is (0.5, 0.5). Angles are in radians, from x towards y.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float]

_SUPERSAMPLING = 4
_SHIFT = 4  # fractional bits of OpenCV's polygon corners


@dataclass(frozen=True)
class Patch:
    """The part of the canvas that a shape touches, and how much of each pixel it covers, 0 to 1."""

    rows: slice
    columns: slice
    coverage: Floats

    @property
    def area(self) -> tuple[slice, slice]:
        """Index into an (S, S) array."""
        return self.rows, self.columns


class Canvas:
    """A square scene under construction.

    Args:
        size: Side S in pixels.

    Attributes:
        pixels: float32 (S, S, 3).
        owner: int16 (S, S): number of the object seen at each pixel, 0 for none.
        taken: bool (S, S): where something stands already.
        categories: Category of each object; object n is at position n - 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pixels = np.zeros((size, size, 3), np.float32)
        self.owner = np.zeros((size, size), np.int16)
        self.taken = np.zeros((size, size), bool)
        self.categories: list[str] = []

    def cover(self, polygon: Floats) -> Patch | None:
        """How a polygon (P, 2) covers the canvas; None where it misses it."""
        (left, top), (right, bottom) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
        left, top = max(0, math.floor(left)), max(0, math.floor(top))
        width, height = min(self.size, math.ceil(right)) - left, min(self.size, math.ceil(bottom)) - top
        if width <= 0 or height <= 0:
            return None
        fine = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
        corners = (polygon - np.array([left, top], np.float32)) * _SUPERSAMPLING - 0.5
        cv2.fillPoly(fine, [np.round(corners * 2**_SHIFT).astype(np.int32)], 255, shift=_SHIFT)
        coverage = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
        if not coverage.any():
            return None
        scaled = coverage.astype(np.float32) / np.float32(255)
        return Patch(slice(top, top + height), slice(left, left + width), scaled)

    def is_free(self, patch: Patch) -> bool:
        """Whether nothing stands where the patch is."""
        return not bool((self.taken[patch.area] & (patch.coverage > 0)).any())

    def occupy(self, patch: Patch, margin: int = 0) -> None:
        """Keeps later shapes away from the patch and `margin` pixels around it."""
        self.taken[patch.area] |= patch.coverage > 0
        if margin:
            rows, columns = (
                slice(max(0, part.start - margin), part.stop + margin) for part in (patch.rows, patch.columns)
            )
            grown = cv2.dilate(
                self.taken[rows, columns].astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
            )
            self.taken[rows, columns] = grown > 0

    def blend(self, patch: Patch, colour: object) -> None:
        """Mixes a colour, or colours (h, w, 3) of the patch's size, in by coverage."""
        part = self.pixels[patch.area]
        part += patch.coverage[:, :, None] * (np.asarray(colour, np.float32) - part)

    def shade(self, patch: Patch, factor: object) -> None:
        """Multiplies the patch by a factor, by coverage."""
        part = self.pixels[patch.area]
        part *= 1 + patch.coverage[:, :, None] * (np.asarray(factor, np.float32) - 1)

    def own(self, patches: list[Patch], category: str) -> None:
        """The patches' pixels, covered by half or more, show a new object of this category."""
        self.categories.append(category)
        for patch in patches:
            self.owner[patch.area][patch.coverage >= 0.5] = len(self.categories)


def rectangle(at: Point, length: float, width: float, angle: float) -> Floats:
    """The corners (4, 2) of a rectangle about `at` whose length points along `angle`."""
    return place(np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * [length, width], at, angle)


def place(points: NDArray[np.floating], at: Point, angle: float) -> Floats:
    """Turns points (P, 2) by `angle` and moves them to `at`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = points @ np.array([[cosine, sine], [-sine, cosine]])
    return np.add(turned, at).astype(np.float32)


def offset(at: Point, angle: float, along: float, across: float) -> Point:
    """The point that lies `along` and `across` the direction `angle` from `at`."""
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return at[0] + along * cosine - across * sine, at[1] + along * sine + across * cosine


def blob(rng: np.random.Generator, at: Point, radius: float, roughness: float = 0.25) -> Floats:
    """An irregular round outline (24, 2): a circle with a few random harmonics."""
    angles = np.arange(24) * (2 * np.pi / 24)
    harmonics = np.arange(2, 6)[:, None]
    waves = np.sin(harmonics * angles + rng.uniform(0, 2 * np.pi, harmonics.shape)) / harmonics
    radii = radius * (1 + roughness * (waves * rng.uniform(0.5, 2, harmonics.shape)).sum(axis=0))
    outline = np.stack([at[0] + radii * np.cos(angles), at[1] + radii * np.sin(angles)], axis=1)
    return outline.astype(np.float32)


def random_point(rng: np.random.Generator, low: float, high: float) -> Point:
    """A point with both coordinates uniform between `low` and `high`."""
    return float(rng.uniform(low, high)), float(rng.uniform(low, high))


def fractal_noise(rng: np.random.Generator, size: int, coarsest: int, octaves: int, persistence: float = 0.5) -> Floats:
    """Smooth random texture (S, S) of about zero mean and unit range: octaves of interpolated white noise.

    Args:
        rng: Source of randomness.
        size: Side S.
        coarsest: Grid spacing of the first octave in pixels; each further octave halves it.
        octaves: Number of octaves.
        persistence: Amplitude of each octave against the one before.
    """
    total = np.zeros((size, size), np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        spacing = max(1, coarsest >> octave)
        cells = size // spacing + 3
        grid = rng.standard_normal((cells, cells), dtype=np.float32)
        side = cells * spacing
        smooth = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        total += amplitude * smooth[spacing : spacing + size, spacing : spacing + size]
        amplitude *= persistence
    return total * np.float32(0.6)
