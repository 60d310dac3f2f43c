"""Pictures of a comparison."""

import csv
import json
from pathlib import Path

import numpy as np
import torch

from distill.report.comparison_figures import curves_figure, features_figure, pca_colours, predictions_figure
from distill.runs.folder import RunFolder


def test_pca_shows_equal_maps_equally() -> None:
    torch.manual_seed(0)
    reference = torch.randn(2, 8, 5, 7)
    first, same, other = pca_colours(reference, [reference.clone(), torch.randn(2, 5, 3, 3)])
    assert first.shape == (2, 5, 7, 3)
    assert torch.equal(first, same)
    assert other.shape == (2, 3, 3, 3)
    assert 0 <= float(other.min()) <= float(other.max()) <= 1


def test_features_stand_below_their_images() -> None:
    images = torch.rand(2, 3, 16, 16)
    figure = features_figure(images, {"teacher": torch.randn(2, 8, 4, 4), "student": torch.randn(2, 8, 2, 2)})
    rows = [[np.asarray(axes.images[0].get_array()).shape for axes in figure.axes[i : i + 2]] for i in (0, 2, 4)]
    assert rows == [[(16, 16, 3)] * 2, [(4, 4, 3)] * 2, [(2, 2, 3)] * 2]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["scene", "teacher", "student"]


def test_the_labels_as_predictions_look_like_the_labels(scenes: Path, tmp_path: Path) -> None:
    annotations = scenes / "test" / "annotations.json"
    truth = json.loads(annotations.read_text())
    perfect = tmp_path / "perfect.json"
    perfect.write_text(json.dumps([{**annotation, "score": 0.5} for annotation in truth["annotations"]]))
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")
    shown = [truth["annotations"][0]["image_id"]]
    figure = predictions_figure(scenes / "test" / "images", annotations, {"a": perfect, "b": nothing}, shown)
    scene, labels, found, empty = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    assert [axes.get_title() for axes in figure.axes] == ["scene", "ground truth", "a", "b"]
    assert np.array_equal(labels, found)
    assert np.array_equal(scene, empty)
    assert not np.array_equal(scene, labels)


def test_curves_are_those_of_the_metrics(tmp_path: Path) -> None:
    rows = [{"step": step, "val/l1_ratio": 1 - step / 10, "train/loss": float(step)} for step in range(8)]
    rows.append({"step": 8, "val/l1_ratio": "", "train/loss": 8.0})
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    left, right = curves_figure(RunFolder(tmp_path), {"scratch": RunFolder(tmp_path)}).axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [1 - step / 10 for step in range(8)])
    assert list(left.lines[1].get_ydata()) == [1, 1]  # the image-independent baseline
    assert right.lines[0].get_label() == "scratch"
    assert right.lines[0].get_ydata()[-1] == np.mean([4, 5, 6, 7, 8])
