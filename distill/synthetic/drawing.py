"""A whole scene: ground, objects, small things, and the camera.

The canvas holds display colours in [0, 1].
"""

import cv2
import numpy as np

from distill.synthetic.canvas import Canvas
from distill.synthetic.ground import draw_land, draw_small_things, draw_water
from distill.synthetic.objects import KINDS, draw_object
from distill.synthetic.setting import USUAL_SIZE, Setting

CLASS_NAMES = tuple(KINDS)
_ON_LAND = tuple(name for name in CLASS_NAMES if name != "ship")
_ATTEMPTS = 24  # to place an object, in a scene of 128 x 128 pixels; most places are taken
# Of a kind of scene: how often, which classes it favours, and whether there is water.
_PLACES = (
    (0.20, ("aircraft",), False),
    (0.14, ("storage tank", "building"), False),
    (0.18, ("building", "court", "diamond"), False),
    (0.20, (), False),
    (0.20, ("storage tank", "building"), True),
    (0.08, (), True),  # all water
)


def draw(rng: np.random.Generator, size: int) -> Canvas:
    """A scene of (size, size) pixels."""
    canvas, setting = Canvas(size), Setting.random(rng, size)
    place = int(rng.choice(len(_PLACES), p=[share for share, _, _ in _PLACES]))
    _, favoured, by_water = _PLACES[place]
    everywhere = place == len(_PLACES) - 1
    draw_land(rng, canvas, setting)
    water = draw_water(rng, canvas, setting, everywhere) if by_water else np.zeros((size, size), bool)
    share = float(water.mean())
    attempts = round(_ATTEMPTS * rng.uniform(0.5, 1.5) * max(1.0, size / USUAL_SIZE) ** 2)
    for _ in range(attempts):
        at_sea = bool(rng.random() < share)
        if at_sea:
            draw_object(rng, canvas, setting, "ship", water)
        elif not everywhere:
            names = favoured if favoured and rng.random() < 0.7 else _ON_LAND
            draw_object(rng, canvas, setting, names[rng.integers(len(names))], ~water)
    draw_small_things(rng, canvas, setting, ~water)
    _photograph(rng, canvas)
    return canvas


def _photograph(rng: np.random.Generator, canvas: Canvas) -> None:
    """Haze, exposure, colour cast, blur and sensor noise; one scene in five is panchromatic."""
    haze, exposure = rng.uniform(0, 0.16), rng.uniform(0.8, 1.35)
    cast = 1 + rng.normal(0, 0.04, 3)
    pixels = canvas.pixels * (exposure * cast * (1 - haze)) + haze * np.array([0.62, 0.66, 0.72])
    if rng.random() < 0.2:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    blurred = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), rng.uniform(0.3, 0.9))
    noise = rng.standard_normal(blurred.shape[:2], dtype=np.float32) * np.float32(rng.uniform(0.008, 0.035))
    canvas.pixels[:] = (blurred + noise[:, :, None]).clip(0, 1)
