"""The pictures of a test as one figure: a few images with their labels and with what the model says, side by side."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from distill.report.figures import add_legend
from distill.report.pictures.stored import PREDICTIONS, PictureSet

_CELL = 3.4  # inches


def predictions_figure(shown: PictureSet) -> Figure:
    """A row for each image: the image, what is true, and what is predicted, with their captions."""
    rows = [[np.asarray(Image.open(one.parts[part])) for part in PREDICTIONS] for one in shown.pictures]
    heights = [_CELL * row[0].shape[0] / row[0].shape[1] for row in rows]
    size = _CELL * len(PREDICTIONS), sum(heights) + 0.5 * len(heights) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(PREDICTIONS), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes_of_row, row, one in zip(grid, rows, shown.pictures, strict=True):
        titles = {"input": one.name, "truth": "ground truth", "prediction": "prediction"}
        for axes, pixels, part in zip(axes_of_row, row, PREDICTIONS, strict=True):
            caption = one.captions.get(part)
            axes.imshow(pixels, interpolation="nearest")
            axes.set_title(titles[part] + (f": {caption}" if caption else ""), fontsize=9)
            axes.set_axis_off()
    add_legend(figure, shown.legend)
    return figure
