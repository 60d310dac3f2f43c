"""What a test leaves beside its averages."""

import csv
from pathlib import Path

import numpy as np
import torch

from distill.contracts import Prediction
from distill.evaluation.coco import CocoEvaluator
from distill.report.detection_report import confusion_figure, instance_tables, precision_recall_figure, write_details
from distill.runs.folder import RunFolder


def evaluator() -> CocoEvaluator:
    """A ship of 8 px that is found, one of 40 px that is not, and a class without objects."""

    def ship(number: int, left: int, side: int) -> dict[str, object]:
        right, bottom = left + side, side
        return {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": [left, 0, side, side],
            "area": side * side,
            "segmentation": [[left, 0, right, 0, right, bottom, left, bottom]],
            "iscrowd": 0,
        }

    content = {
        "images": [{"id": 1, "height": 50, "width": 90}],
        "annotations": [ship(1, 0, 8), ship(2, 20, 40)],
        "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "harbour"}],
    }
    masks = torch.zeros(1, 50, 90, dtype=torch.bool)
    masks[0, :8, :8] = True
    result = CocoEvaluator(content, ["ship", "harbour"])
    result.update([Prediction(1, torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0.9]), torch.tensor([0]), masks)])
    return result


def test_files_and_rows(tmp_path: Path) -> None:
    found = evaluator()
    names = write_details(RunFolder(tmp_path), "test", found, found.score())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name in names[1:]:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "test_classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["class"], row["objects"]) for row in rows] == [
        (kind, *of_class) for kind in ("box", "mask", "boundary") for of_class in (("ship", "2"), ("harbour", "0"))
    ]
    ship, harbour = rows[0], rows[1]
    assert (float(ship["AP_small"]), float(ship["AP_medium"]), ship["AP_large"]) == (1, 0, "n/a")
    assert float(ship["AR"]) == 0.5
    assert float(ship["AP"]) == round(51 / 101, 6)  # precision 1 up to recall 0.5
    assert {harbour[key] for key in ("AP", "AP50", "AR")} == {"n/a"}


def test_no_curves_where_nothing_was_found(tmp_path: Path) -> None:
    found = evaluator()
    found.records = [(1, [])]
    (tmp_path / "test_precision_recall.png").touch()  # of an earlier test
    names = write_details(RunFolder(tmp_path), "test", found, found.score())
    assert names == ["test_classes.csv", "test_confusion.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_tables_are_in_percent() -> None:
    found = evaluator()
    means, classes = instance_tables(found.score(), found.objects())
    assert [column.header for column in means.columns][:4] == ["%", "AP", "AP50", "AP75"]
    assert [str(next(column.cells)) for column in means.columns][:2] == ["box", "50.5"]  # 51 / 101
    cells = [list(map(str, column.cells)) for column in classes.columns]
    assert cells[:3] == [["ship", "harbour"], ["2", "0"], ["50.5", "n/a"]]


def test_curves_show_precision_over_recall() -> None:
    figure = precision_recall_figure(evaluator().score())
    assert [axes.get_title() for axes in figure.axes[:2]] == ["box, IoU 0.5", "box, IoU 0.75"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"ship", "mean"}  # nothing of the other class can be found
    recall, precision = lines["ship"].get_xdata(), lines["ship"].get_ydata()
    assert np.allclose(precision, np.asarray(recall) <= 0.5)


def test_confusions_show_their_counts() -> None:
    found = evaluator()
    figure = confusion_figure(found.confusion(), found.class_names)
    shown = {(text.get_position(), text.get_text()) for text in figure.axes[0].texts}
    assert shown == {((0, 0), "1"), ((2, 0), "1")}  # (column, row)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["ship", "harbour", "missed"]
