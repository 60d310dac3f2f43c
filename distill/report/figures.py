"""How pictures are drawn and written, whatever they show.

Axes: H W pixels.
"""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from distill.colours import class_colour
from distill.files import write_atomically

logger = logging.getLogger(__name__)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG in one step; a "$" in its text is a dollar sign, as in names of files and classes.

    Raises:
        UserError: The file cannot be written.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with mpl.rc_context({"text.parse_math": False}), _missing_glyphs_in_one_line(path):  # ticks come when drawn
        write_atomically(path, lambda temporary: _write_png(figure, temporary))


def _write_png(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")


@contextmanager
def _missing_glyphs_in_one_line(path: Path) -> Iterator[None]:
    """Matplotlib warns of every character that its font lacks, for example all Chinese ones; other warnings pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = ""
    for warning in caught:
        if match := re.match(r"Glyph (\d+) ", str(warning.message)):
            missing += chr(int(match[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        logger.warning("%s shows boxes for what its font lacks: %s", path, "".join(dict.fromkeys(missing)))


def draw_masks(
    axes: Axes,
    image: np.ndarray,
    masks: Iterable[np.ndarray],
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
) -> None:
    """Draws objects over an image.

    Args:
        axes: Where.
        image: RGB (H, W, 3) in [0, 1].
        masks: (H, W) bool of each object.
        boxes: Left, top, width and height of each, in pixels.
        labels: Class of each.
    """
    shown = image.copy()
    for mask, label in zip(masks, labels, strict=True):
        colour = np.asarray(mpl.colors.to_rgb(class_colour(label)), dtype=np.float32)
        shown[mask] = 0.45 * shown[mask] + 0.55 * colour
    axes.imshow(shown)
    for (x, y, width, height), label in zip(boxes, labels, strict=True):
        axes.add_patch(
            mpl.patches.Rectangle(
                (x - 0.5, y - 0.5), width, height, fill=False, edgecolor=class_colour(label), linewidth=1.2
            )
        )
    axes.set_axis_off()


def add_legend(figure: Figure, names: Mapping[int, str], others: Mapping[str, str] | None = None) -> None:
    """Names classes by their colours, below all axes.

    Args:
        figure: Of the constrained layout.
        names: Of the classes, by label.
        others: Colours of what is no class, by name.
    """
    colours = {name: class_colour(label) for label, name in names.items()} | dict(others or {})
    patches = [mpl.patches.Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(5, max(1, len(patches))), frameon=False)
