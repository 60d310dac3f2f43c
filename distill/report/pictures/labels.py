"""Pictures of the classes of pixels, as labelled and as predicted."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from distill.colours import class_colour
from distill.data.class_table import IGNORE
from distill.report.pictures.choice import spread
from distill.report.pictures.drawing import NOT_LABELLED, Drawing, colour_labels, photo


def label_drawings(dataset: Any, task: Any, as_batch: Callable[[Tensor], Tensor]) -> list[Drawing]:
    """Images spread over a split, with their labels and with the classes that the model predicts.

    Args:
        dataset: A `distill.data.views.semantic.SemanticViews` of whole images.
        task: A `distill.tasks.segmentation.SegmentationModule` in eval mode, which predicts them again.
        as_batch: Makes what the task takes of an image (3, H, W).
    """
    parents = [str(pair.image.parent.absolute()) for pair in dataset.pairs]
    root = os.path.commonpath(parents) if parents else ""
    return [_drawing(dataset, index, root, task, as_batch) for index in spread(len(dataset))]


def _drawing(dataset: Any, index: int, root: str, task: Any, as_batch: Callable[[Tensor], Tensor]) -> Drawing:
    pixels, labels = dataset.read(index)
    image = as_batch(dataset.fixed(index, (pixels, labels))["image"])
    predicted = task.predict_labels(image, tuple(labels.shape))[0].cpu().numpy()
    labels = labels.numpy()
    labelled = labels != IGNORE
    said = "no pixel is labelled"
    if labelled.any():
        said = f"{100 * (predicted == labels)[labelled].mean():.1f} % of the pixels right"
    names: list[str] = task.class_names
    shown = sorted({*np.unique(labels[labelled]).tolist(), *np.unique(predicted).tolist()})
    legend = {names[label]: class_colour(label) for label in shown}
    if not labelled.all():
        legend["not labelled"] = NOT_LABELLED
    return Drawing(
        name=dataset.pairs[index].image.absolute().relative_to(root).as_posix(),
        parts={
            "input": photo(pixels.numpy()),
            "truth": colour_labels(labels, len(names)),
            "prediction": colour_labels(predicted, len(names)),
        },
        captions={"prediction": said},
        legend=legend,
        exact=("truth", "prediction"),
    )
