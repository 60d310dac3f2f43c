"""Settings of a whole aerial photograph: its streets' direction, its scale, and the sun with its shadows."""

from dataclasses import dataclass

import cv2
import numpy as np

from distill.synthetic.canvas import Canvas, Floats

_SHADOW = (0.42, 0.45, 0.52)


@dataclass(frozen=True)
class Setting:
    """What holds for a whole scene."""

    grid: float  # direction of streets, radians
    scale: float  # pixels per metre
    sun: tuple[float, float]  # shadow cast per metre of height, in pixels


def cast_shadow(canvas: Canvas, setting: Setting, outline: Floats, height: float) -> None:
    """Darkens what an outline, raised by `height` metres, keeps from the sun."""
    shifted = outline + np.array(setting.sun, np.float32) * np.float32(height)
    hull = cv2.convexHull(np.concatenate([outline, shifted]))[:, 0]
    patch = canvas.cover(hull)
    if patch is not None:
        canvas.shade(patch, _SHADOW)
