"""Colours of classes, the same in every picture."""

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

# Any two are at least 35 apart in CIELAB, where 2 can be seen: each is the farthest from those before it that is light
# enough for a dark scene.
# fmt: off
CLASS_COLOURS = (
    "#ff5a5f", "#2ec4b6", "#ffbf00", "#8a6cff", "#4dabf7", "#f783ac", "#00ff00", "#4b8700",
    "#ffe1b4", "#ff00d2", "#5aff96", "#96691e", "#c3f01e", "#a500ff", "#ff780f", "#875aa5",
    "#f0d2ff", "#ff0087", "#5a784b", "#c3e178", "#ff000f", "#2d7887", "#965a5a", "#ff96ff",
)
# fmt: on
_GOLDEN = 0.6180339887  # of the colour circle, with which hues never repeat


def class_colour(label: int) -> str:
    """The colour of a class as "#rrggbb"; no two classes share one."""
    if label < len(CLASS_COLOURS):
        return CLASS_COLOURS[label]
    hue, saturation = label * _GOLDEN % 1, (0.5, 0.75, 1.0)[label % 3]
    red, green, blue = mpl.colors.hsv_to_rgb((hue, saturation, 0.9))
    return mpl.colors.to_hex((red, green, blue))


def class_rgb(count: int) -> NDArray[np.float32]:
    """RGB in [0, 1] of the first `count` classes, of shape (count, 3)."""
    return np.array([mpl.colors.to_rgb(class_colour(label)) for label in range(count)], np.float32).reshape(count, 3)
