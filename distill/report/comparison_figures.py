"""Pictures of a comparison: predictions beside ground truth, feature maps by PCA, loss curves.

Axes: K images, C channels, H W grid or pixels.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from distill.data.images import read_image
from distill.data.masks import decode_mask
from distill.report.figures import add_legend, draw_masks
from distill.runs.folder import RunFolder


def predictions_figure(
    images: Path, annotations: Path, predictions: Mapping[str, Path], image_ids: Sequence[int]
) -> Figure:
    """Ground truth and each model's best predictions, one scene a row.

    Of each model as many instances are drawn as there are objects, highest score first: a score threshold would favour
    the model with higher scores.

    Args:
        images: Folder of the images.
        annotations: COCO annotation file.
        predictions: COCO results file of each model, by its name in the figure.
        image_ids: Scenes to show.
    """
    truth = json.loads(annotations.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    records = {record["id"]: record for record in truth["images"]}
    results = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in predictions.items()}
    columns = ["scene", "ground truth", *results]
    figure = Figure(figsize=(2.1 * len(columns), 2.1 * len(image_ids) + 0.5), layout="constrained")
    grid = figure.subplots(len(image_ids), len(columns), squeeze=False)
    for row, image_id in zip(grid, image_ids, strict=True):
        record = records[image_id]
        image = read_image(images / record["file_name"]).permute(1, 2, 0).numpy()
        own = [annotation for annotation in truth["annotations"] if annotation["image_id"] == image_id]
        _draw_instances(row[0], image, [], names)
        _draw_instances(row[1], image, own, names)
        for axes, result in zip(row[2:], results.values(), strict=True):
            found = sorted((r for r in result if r["image_id"] == image_id), key=lambda r: -r["score"])
            _draw_instances(axes, image, found[: len(own)], names)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=11)
    add_legend(figure, dict(enumerate(names.values())))
    return figure


def pca_colours(reference: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    """Shows feature maps as colours: the reference's first three principal components, applied to all.

    Args:
        reference: Maps (K, C, H, W) that the components are fitted on.
        others: Further maps (K, C, h, w), compared in the same basis; maps of other channel counts get their own.

    Returns:
        Colours (K, H, W, 3) in [0, 1], the reference's first.
    """

    def flat(maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).float()

    def basis_of(maps: Tensor) -> tuple[Tensor, Tensor]:
        values = flat(maps)
        centre = values.mean(0)
        # Deterministic, unlike torch.pca_lowrank; C is a few hundred at most here.
        vectors = torch.linalg.eigh(torch.cov((values - centre).T)).eigenvectors[:, -3:].flip(1)
        return centre, vectors

    centre, basis = basis_of(reference)
    colours = []
    for maps in (reference, *others):
        same = maps.shape[1] == reference.shape[1]
        own_centre, own_basis = (centre, basis) if same else basis_of(maps)
        values = flat(maps).sub(own_centre) @ own_basis
        # Each model's own range: the maps of a student of standardised targets have another scale than its teacher's.
        low, high = values.quantile(0.02, dim=0), values.quantile(0.98, dim=0)
        scaled = (values - low) / (high - low)
        colours.append(scaled.clamp(0, 1).view(maps.shape[0], *maps.shape[-2:], 3))
    return colours


def features_figure(images: Tensor, maps: Mapping[str, Tensor]) -> Figure:
    """Images (K, 3, H, W) in [0, 1] above the PCA colours of each model's maps; the first model sets the basis."""
    names, tensors = list(maps), list(maps.values())
    colours = pca_colours(tensors[0], tensors[1:])
    count = len(images)
    figure = Figure(figsize=(1.9 * count, 1.9 * (len(names) + 1)))
    grid = figure.subplots(len(names) + 1, count, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.06})
    for column in range(count):
        grid[0][column].imshow(images[column].permute(1, 2, 0).numpy())
        for row, colour in enumerate(colours, start=1):
            grid[row][column].imshow(colour[column].numpy(), interpolation="nearest")
    for row, title in zip(grid, ["scene", *names], strict=True):
        row[0].set_ylabel(title, fontsize=11)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def read_curve(folder: RunFolder, metric: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric in a run folder's metrics.csv."""
    with folder.metrics.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(metric)]
    return [int(row["step"]) for row in rows], [float(row[metric]) for row in rows]


def curves_figure(distilled: RunFolder, tuned: Mapping[str, RunFolder]) -> Figure:
    """Validation L1 of a distillation against the image-independent baseline, and training losses of fine-tuned models.

    Args:
        distilled: Run folder of the distillation.
        tuned: Run folders of the fine-tuned models by name.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*read_curve(distilled, "val/l1_ratio"), marker="o", ms=3, color="#8a6cff", label="student, clean input")
    left.axhline(1, color="0.5", ls="--", lw=1, label="image-independent baseline")
    left.set(title="distillation", xlabel="step", ylabel="validation L1 / baseline L1", ylim=(0, 1.25))
    left.legend(frameon=False)
    for name, folder in tuned.items():
        steps, values = read_curve(folder, "train/loss")
        right.plot(steps, _smooth(values), label=name)
    right.set(title="fine-tuning", xlabel="step", ylabel="training loss (running mean of 5)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    return [float(np.mean(values[max(0, i - window + 1) : i + 1])) for i in range(len(values))]


def _draw_instances(
    axes: Axes, image: np.ndarray, instances: Sequence[Mapping[str, Any]], names: dict[int, str]
) -> None:
    """Draws COCO instances (segmentation, xywh box, category_id) over an image (H, W, 3)."""
    identifiers = list(names)
    labels = [identifiers.index(instance["category_id"]) for instance in instances]
    masks = (decode_mask(instance["segmentation"], *image.shape[:2]).astype(bool) for instance in instances)
    draw_masks(axes, image.astype(np.float32) / 255, masks, [instance["bbox"] for instance in instances], labels)
