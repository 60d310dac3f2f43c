"""Pictures of a comparison: predictions beside ground truth, feature maps by PCA, loss curves.

Axes: K images, C channels, H W grid or pixels.
"""

import csv
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from distill.data.images import read_image
from distill.data.masks import decode_mask
from distill.files import write_atomically

logger = logging.getLogger(__name__)

# Any two are at least 35 apart in CIELAB, where 2 can be seen: each is the farthest from those before it that is light
# enough for a dark scene.
# fmt: off
CLASS_COLOURS = (
    "#ff5a5f", "#2ec4b6", "#ffbf00", "#8a6cff", "#4dabf7", "#f783ac", "#00ff00", "#4b8700",
    "#ffe1b4", "#ff00d2", "#5aff96", "#96691e", "#c3f01e", "#a500ff", "#ff780f", "#875aa5",
    "#f0d2ff", "#ff0087", "#5a784b", "#c3e178", "#ff000f", "#2d7887", "#965a5a", "#ff96ff",
)
# fmt: on
_GOLDEN = 0.6180339887  # of a turn, after which hues never meet again


def class_colour(label: int) -> str:
    """The colour of a class in every picture; each class has its own."""
    if label < len(CLASS_COLOURS):
        return CLASS_COLOURS[label]
    hue, saturation = label * _GOLDEN % 1, (0.5, 0.75, 1.0)[label % 3]
    red, green, blue = mpl.colors.hsv_to_rgb((hue, saturation, 0.9))
    return mpl.colors.to_hex((red, green, blue))


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


def draw_instances(
    axes: Axes, image: np.ndarray, instances: Sequence[Mapping[str, Any]], names: dict[int, str]
) -> None:
    """Draws COCO instances (segmentation, xywh box, category_id) over an image (H, W, 3)."""
    identifiers = list(names)
    labels = [identifiers.index(instance["category_id"]) for instance in instances]
    masks = (decode_mask(instance["segmentation"], *image.shape[:2]).astype(bool) for instance in instances)
    draw_masks(axes, image.astype(np.float32) / 255, masks, [instance["bbox"] for instance in instances], labels)


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


def predictions_figure(
    images: Path, annotations: Path, predictions: Mapping[str, Path], image_ids: Sequence[int]
) -> Figure:
    """Ground truth and each model's best predictions, one scene a row.

    Of each model as many instances are drawn as there are objects, highest score first: a score threshold would favour
    the model that is surer of itself.

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
        draw_instances(row[0], image, [], names)
        draw_instances(row[1], image, own, names)
        for axes, result in zip(row[2:], results.values(), strict=True):
            found = sorted((r for r in result if r["image_id"] == image_id), key=lambda r: -r["score"])
            draw_instances(axes, image, found[: len(own)], names)
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
        # Each model's own range: a student of standardised targets speaks at another scale than its teacher.
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


def read_curve(folder: Path, metric: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric in a run folder's metrics.csv."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(metric)]
    return [int(row["step"]) for row in rows], [float(row[metric]) for row in rows]


def curves_figure(distilled: Path, twins: Mapping[str, Path]) -> Figure:
    """How distillation fell below the image-independent baseline, and how the twins' fine-tuning losses fell.

    Args:
        distilled: Run folder of the distillation.
        twins: Run folders of the fine-tuned models by name.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*read_curve(distilled, "val/l1_ratio"), marker="o", ms=3, color="#8a6cff", label="student, clean input")
    left.axhline(1, color="0.5", ls="--", lw=1, label="image-independent baseline")
    left.set(title="distillation", xlabel="step", ylabel="validation L1 / baseline L1", ylim=(0, 1.25))
    left.legend(frameon=False)
    for name, folder in twins.items():
        steps, values = read_curve(folder, "train/loss")
        right.plot(steps, _smooth(values), label=name)
    right.set(title="fine-tuning", xlabel="step", ylabel="training loss (running mean of 5)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    return [float(np.mean(values[max(0, i - window + 1) : i + 1])) for i in range(len(values))]
