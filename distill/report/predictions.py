"""The pictures of a test as one figure: a few images with their labels and with what the model says, side by side."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from distill.report.figures import add_legend
from distill.report.pictures.stored import PREDICTIONS, PictureSet

_CELL = 3.4  # inches
_GAP, _TITLE = 0.1, 0.3


def predictions_figure(shown: PictureSet) -> Figure:
    """A row for each image: the image, what is true, and what is predicted, with their captions.

    Everything's place follows from the sizes of the images. To have it found from what is drawn takes as long again.
    """
    rows = [[np.asarray(Image.open(one.parts[part])) for part in PREDICTIONS] for one in shown.pictures]
    heights = [_CELL * row[0].shape[0] / row[0].shape[1] for row in rows]
    width = (_CELL + _GAP) * len(PREDICTIONS)
    height = sum(heights) + _TITLE * len(rows)
    figure, bottom = Figure(figsize=(width, height)), height
    for row, tall, one in zip(rows, heights, shown.pictures, strict=True):
        bottom -= _TITLE + tall
        titles = {"input": one.name, "truth": "ground truth", "prediction": "prediction"}
        for column, (pixels, part) in enumerate(zip(row, PREDICTIONS, strict=True)):
            left = column * (_CELL + _GAP) + _GAP / 2
            axes = figure.add_axes((left / width, bottom / height, _CELL / width, tall / height))
            axes.set_axis_off()
            axes.imshow(pixels, interpolation="nearest")
            caption = one.captions.get(part)
            title = titles[part] + (f": {caption}" if caption else "")
            axes.set_title(title, fontsize=9, y=1)  # a place that is given is not sought among ticks
    add_legend(figure, shown.legend)
    return figure
