"""The names of colours below a picture."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_FONT = "fonts/ttf/DejaVuSans.ttf"  # of Matplotlib's data, the same on every machine; Latin, Greek and Cyrillic
_GROUND, _TEXT, _SOFT = "#ffffff", "#1b1f24", "#5b6470"
_LONGEST_NAME = 40  # characters


def with_legend(pixels: NDArray[np.uint8], entries: Mapping[str, tuple[str, str]]) -> Image.Image:
    """A picture on top of its legend, whose text grows with the picture.

    Args:
        pixels: RGB (h, w, 3).
        entries: Colour as "#rrggbb" and amount of each class, by its name.
    """
    height, width = pixels.shape[:2]
    size = max(12, round(max(height, width) / 55))
    font = ImageFont.truetype(str(Path(mpl.get_data_path(), _FONT)), size)
    gap, line = size, round(1.9 * size)
    pad = gap // 2
    places, x, y = [], gap, pad
    for name, (colour, amount) in entries.items():
        shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        named, counted = font.getlength(f"{shown} "), font.getlength(amount)
        wide = round(1.4 * size + named + counted)
        if x > gap and x + wide > width - gap:
            x, y = gap, y + line
        places.append((x, y, shown, named, colour, amount))
        x += wide + 2 * gap
    # A narrow picture gets room on its right, where a name is longer than the picture is wide.
    needed = max(x + round(1.4 * size + named + font.getlength(a)) + gap for x, _, _, named, _, a in places)
    image = Image.new("RGB", (max(width, needed), height + y + line + pad), _GROUND)
    image.paste(Image.fromarray(pixels))
    draw = ImageDraw.Draw(image)
    for x, y, shown, named, colour, amount in places:
        middle = height + y + line // 2
        draw.rectangle((x, middle - size // 2, x + size, middle + size // 2), fill=colour, outline=_SOFT)
        start = x + 1.4 * size
        draw.text((start, middle), shown, _TEXT, font, anchor="lm")
        draw.text((start + named, middle), amount, _SOFT, font, anchor="lm")
    return image
