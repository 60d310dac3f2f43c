"""Writes figures and their legend."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from distill.files import write_atomically

logger = logging.getLogger(__name__)

_DOTS = 110  # per inch


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG in one step; a "$" in its text is a dollar sign, as in names of files and classes.

    Raises:
        UserError: The file cannot be written.
    """
    for text in _texts(figure):
        text.set_parse_math(False)
    with mpl.rc_context({"text.parse_math": False}), _missing_glyphs_in_one_line(path):  # ticks come when drawn
        write_atomically(path, lambda temporary: _write_png(figure, temporary))


def _texts(artist: Artist) -> Iterator[Text]:
    """All texts that are shown. To ask a hidden axis for its ticks would make them, a quarter of a figure's time."""
    if isinstance(artist, Text):
        yield artist
    hidden = () if not isinstance(artist, Axes) or artist.axison else (artist.xaxis, artist.yaxis)
    for part in artist.get_children():
        if part not in hidden:
            yield from _texts(part)


def _write_png(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DOTS, bbox_inches="tight", facecolor="white")


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


def add_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Names what colours stand for, below the figure, which `save` makes large enough.

    Args:
        figure: Any.
        colours: By name.
    """
    patches = [mpl.patches.Patch(color=colour, label=name) for name, colour in colours.items()]
    columns = min(5, max(1, len(patches)))
    figure.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, frameon=False)
