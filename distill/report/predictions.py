"""A few images of a test with their labels and with what the model says, side by side.

Axes: H W pixels of what the network sees of an image, N objects, K classes.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn import functional as F

from distill.colours import class_rgb
from distill.data.class_table import IGNORE
from distill.data.masks import decode_mask
from distill.evaluation.coco import CocoEvaluator
from distill.evaluation.units import counted
from distill.report.figures import add_legend, draw_masks

SHOWN = 4  # images
_CELL = 3.4  # inches
_NOT_LABELLED = "#404040"


def instances_figure(dataset: Any, evaluator: CocoEvaluator) -> Figure:
    """Ground truth and predictions of images that were scored; those come first that show a class not yet shown.

    Of the predictions as many are drawn as there are objects, highest score first: a score threshold would leave
    nothing of a model whose scores are still low.

    Args:
        dataset: A `distill.data.views.instances.InstanceViews` of whole images.
        evaluator: With the predictions.
    """
    seen = set(evaluator.seen())
    scored = [i for i, image in enumerate(dataset.images) if image["id"] in seen]
    classes = {i: dataset.classes(i) for i in scored}
    results = evaluator.results()
    label_of = {category_id: label for label, category_id in enumerate(evaluator.category_ids)}
    chosen = choose(classes)
    samples = [dataset[index] for index in chosen]
    figure, grid = _grid([target.size for _, target in samples], columns=2)
    named: set[int] = set()
    for (left, right), index, (image, target) in zip(grid, chosen, samples, strict=True):
        height, width = target.size
        pixels = image[:, :height, :width].permute(1, 2, 0).numpy()
        true = target.boxes.clone()
        true[:, 2:] -= true[:, :2]
        labels = target.labels.tolist()
        draw_masks(left, pixels, target.masks[:, :height, :width].numpy(), true.tolist(), labels)
        own = sorted((r for r in results if r["image_id"] == target.image_id), key=lambda r: -r["score"])
        found = own[: len(labels)]
        zoom_y, zoom_x = height / target.original_size[0], width / target.original_size[1]
        boxes = [np.multiply(r["bbox"], [zoom_x, zoom_y, zoom_x, zoom_y]).tolist() for r in found]
        masks = (_resized(decode_mask(r["segmentation"], *target.original_size), height, width) for r in found)
        predicted = [label_of[r["category_id"]] for r in found]
        draw_masks(right, pixels, masks, boxes, predicted)
        named |= {*labels, *predicted}
        name = dataset.images[index]["file_name"]
        left.set_title(f"{name}\nground truth: {counted(len(labels), 'object')}", fontsize=9)
        lowest = f", scores from {found[-1]['score']:.2f}" if found else ""
        right.set_title(f"prediction: best {len(found)} of {counted(len(own), 'instance')}{lowest}", fontsize=9)
    add_legend(figure, {label: evaluator.class_names[label] for label in sorted(named)})
    return figure


def labels_figure(dataset: Any, model: Any) -> Figure:
    """Images with their labels and the predicted classes.

    Args:
        dataset: A `distill.data.views.semantic.SemanticViews` of whole images.
        model: A `distill.tasks.segmentation.SegmentationModule`, which predicts them again.
    """
    names: list[str] = model.class_names
    chosen = np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset))).round().astype(int).tolist()
    samples = [dataset[index] for index in chosen]
    figure, grid = _grid([sample["label"].shape for sample in samples], columns=3)
    was_training = model.training
    model.eval()
    for (left, middle, right), index, sample in zip(grid, chosen, samples, strict=True):
        labels = sample["label"]
        with torch.no_grad():
            image = sample["image"][None].to(model.device)
            predicted = model.predict_labels(image, (labels.shape[0], labels.shape[1]))[0].cpu().numpy()
        left.imshow(sample["image"].permute(1, 2, 0).numpy())
        middle.imshow(coloured(labels.numpy(), len(names)), interpolation="nearest")
        right.imshow(coloured(predicted, len(names)), interpolation="nearest")
        labelled = labels.numpy() != IGNORE
        right_share = float((predicted == labels.numpy())[labelled].mean()) if labelled.any() else float("nan")
        left.set_title(dataset.pairs[index].image.name, fontsize=9)
        middle.set_title("labels", fontsize=9)
        right.set_title(f"predicted, {100 * right_share:.1f} % of the pixels right", fontsize=9)
        for axes in (left, middle, right):
            axes.set_axis_off()
    model.train(was_training)
    unlabelled = any(bool((sample["label"] == IGNORE).any()) for sample in samples)
    add_legend(figure, dict(enumerate(names)), {"not labelled": _NOT_LABELLED} if unlabelled else {})
    return figure


def coloured(labels: NDArray[np.integer[Any]], classes: int) -> NDArray[np.float32]:
    """Colours (H, W, 3) of class labels (H, W); pixels without a label are dark grey."""
    table = np.full((IGNORE + 1, 3), mpl.colors.to_rgb(_NOT_LABELLED), dtype=np.float32)
    table[:classes] = class_rgb(classes)
    return table[labels]


def choose(classes: dict[int, set[int]]) -> list[int]:
    """Up to `SHOWN` images by the classes they show: such that show a new one, then such with objects, then any."""
    shown: set[int] = set()
    first: list[int] = []
    for index, found in classes.items():
        if found - shown:
            first.append(index)
            shown |= found
    rest = sorted((index for index in classes if index not in first), key=lambda index: not classes[index])
    return [*first, *rest][:SHOWN]


def _grid(sizes: Sequence[Sequence[int]], columns: int) -> tuple[Figure, Any]:
    """A row of axes for each image, as high as its size (H, W) asks for."""
    heights = [_CELL * height / width for height, width in sizes]
    figure = Figure(figsize=(_CELL * columns, sum(heights) + 0.5 * len(heights) + 0.6), layout="constrained")
    return figure, figure.subplots(len(sizes), columns, squeeze=False, gridspec_kw={"height_ratios": heights})


def _resized(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.bool_]:
    whole = torch.from_numpy(mask)[None, None].float()
    return F.interpolate(whole, (height, width), mode="area")[0, 0].numpy() >= 0.5
