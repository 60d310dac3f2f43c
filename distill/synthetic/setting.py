"""Settings of a whole scene: its ground resolution, its streets' direction, and the sun with its shadows."""

from dataclasses import dataclass

import cv2
import numpy as np

from distill.synthetic.canvas import Canvas, Floats

USUAL_SIZE = 128  # pixels; smaller scenes show the same in less detail, larger ones show more
_SHADOW = (0.42, 0.45, 0.52)


@dataclass(frozen=True)
class Setting:
    """Properties of a whole scene."""

    grid: float  # direction of streets and walls, radians
    zoom: float  # size of everything against its size at the middle resolution
    shrink: float  # part of the zoom that is due to a scene below 128 pixels, 1 for others
    sun: tuple[float, float]  # shadow cast by an object of the usual height, in pixels

    @classmethod
    def random(cls, rng: np.random.Generator, size: int) -> "Setting":
        """Ground resolutions spread over a factor of two, streets and sun from any direction.

        Args:
            rng: Source of randomness.
            size: Side of the scene in pixels.
        """
        shrink = min(1.0, size / USUAL_SIZE)
        zoom = shrink * float(2 ** rng.uniform(-0.5, 0.5))
        azimuth, length = rng.uniform(0, 2 * np.pi), rng.uniform(2, 5) * zoom
        return cls(
            grid=float(rng.uniform(0, np.pi)),
            zoom=zoom,
            shrink=shrink,
            sun=(length * float(np.cos(azimuth)), length * float(np.sin(azimuth))),
        )


def cast_shadow(canvas: Canvas, setting: Setting, outline: Floats, height: float = 1.0) -> None:
    """Darkens what an outline, raised by `height` of the usual, keeps from the sun."""
    shifted = outline + np.array(setting.sun, np.float32) * np.float32(height)
    hull = cv2.convexHull(np.concatenate([outline, shifted]))[:, 0]
    patch = canvas.cover(hull)
    if patch is not None:
        canvas.shade(patch, _SHADOW)
