"""Draws predictions in axes of Matplotlib, in pixels of the image.

Axes: N instances, C channels, H W pixels of the image, h w of a map.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.colours import class_colour
from distill.evaluation.units import counted
from distill.patch import Patch
from distill.report.pictures.pca import pca_colours
from distill.scene.detections import Detection
from distill.scene.overlay import Overlay

MOST_NAMED = 60  # instances whose name is written beside them, the best ones


def new_axes() -> Any:
    """Axes of a new figure of Matplotlib's own, which a notebook shows."""
    from matplotlib import pyplot  # not at the top: it chooses a window system

    _, axes = pyplot.subplots(figsize=(8, 8), layout="constrained")
    return axes


def draw_instances(axes: Any, pixels: Tensor, found: Any, score: float) -> None:
    """Draws masks in the colours of their classes, with class and score beside them.

    Args:
        axes: Of Matplotlib.
        pixels: uint8 RGB (3, H, W).
        found: `distill.launch.predictors.Instances` of the image.
        score: The least score that is drawn.
    """
    size = (pixels.shape[1], pixels.shape[2])
    overlay = Overlay(pixels.numpy(), size, found.class_names)
    values = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    shown = [(n, box, value, label) for n, (box, value, label) in enumerate(values) if value >= score]
    for number, box, value, label in reversed(shown):  # the best last, above the others
        patch = _patch(found.masks[number].numpy())
        if patch is not None:
            overlay.add([Detection((0, 0), tuple(box), value, label, patch)])
    _show(axes, overlay.pixels(), size)
    for _, (left, top, _, _), value, label in shown[:MOST_NAMED]:
        name = f"{found.class_names[label]} {value:.2f}"
        ground = {"facecolor": class_colour(label), "edgecolor": "none", "pad": 1, "alpha": 0.85}
        axes.text(left, top, name, fontsize=7, va="bottom", bbox=ground, clip_on=True, parse_math=False)
    others = f", {len(found) - len(shown)} below {score:g} not drawn" if len(found) > len(shown) else ""
    axes.set_title(f"{counted(len(shown), 'instance')}{others}", fontsize=10)
    _legend(axes, found.class_names, {label for _, _, _, label in shown})


def draw_classes(axes: Any, pixels: Tensor, labels: Tensor, class_names: Sequence[str]) -> None:
    """Draws the classes of pixels (H, W) over an image (3, H, W)."""
    size = (pixels.shape[1], pixels.shape[2])
    overlay = Overlay(pixels.numpy(), size, class_names)
    classes = labels.numpy().astype(np.uint8)
    overlay.add_block(0, classes)
    _show(axes, overlay.pixels(), size)
    _legend(axes, class_names, np.unique(classes).tolist())


def draw_features(axes: Any, pixels: Tensor, features: Tensor) -> None:
    """Draws the first three principal components of a feature map (C, h, w) as red, green and blue."""
    channels, height, width = features.shape
    axes.imshow(pca_colours(features[None], [])[0][0].numpy(), extent=(0, pixels.shape[2], pixels.shape[1], 0))
    axes.set_axis_off()
    axes.set_title(f"principal components of {channels} channels, {height} x {width} cells", fontsize=10)


def _show(axes: Any, picture: NDArray[np.uint8], size: tuple[int, int]) -> None:
    axes.imshow(picture, extent=(0, size[1], size[0], 0))
    axes.set_axis_off()


def _legend(axes: Any, class_names: Sequence[str], labels: Iterable[int]) -> None:
    """Names the classes that are shown, below the axes."""
    entries = [mpl.patches.Patch(color=class_colour(label), label=class_names[label]) for label in sorted(labels)]
    if entries:
        legend = axes.legend(
            handles=entries, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=min(5, len(entries)), frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _patch(mask: NDArray[np.bool_]) -> Patch | None:
    """The rectangle that a mask (H, W) fills; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(int(rows[0]), int(columns[0]), inside.astype(np.uint8))
