from pathlib import Path

import numpy as np
import pytest

from distill import DistillationModule, FineTuningModule, SegmentationModule
from distill.evaluation.metrics import KINDS, METRICS, Metric, bare, markdown_table, metric_of
from distill.evaluation.scores import Scores
from distill.evaluation.segmentation import PixelConfusion

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.mark.parametrize("task", [DistillationModule, FineTuningModule, SegmentationModule])
def test_the_best_checkpoint_is_chosen_in_the_metrics_direction(task: type) -> None:
    name, mode = task.monitor  # type: ignore[attr-defined]
    assert bare(name) in METRICS
    assert metric_of(name).better == mode


def test_every_score_is_in_the_table() -> None:
    names = ["ship", "storage tank"]
    nothing = Scores(names, np.full((10, 101, 2, 4), -1.0), np.full((10, 2, 4), -1.0))
    logged = [f"{kind}/{name}" for kind in KINDS for name in nothing.summary()]
    logged += PixelConfusion(names).summary()
    known = {name for name, metric in METRICS.items() for full in logged if metric_of(full) is metric}
    assert all(metric_of(name).unit == "%" for name in logged)
    trained = {"l1", "cosine", "trivial_l1", "l1_ratio", "mse"}  # of distillations and masked autoencoders
    assert known == {name for name in METRICS if name not in trained and not name.startswith("probe/")}


def test_classes_and_splits_do_not_matter() -> None:
    assert metric_of("test/mask/AP/land/water") is METRICS["mask/AP"]
    assert metric_of("val/IoU/l1") is METRICS["IoU"]
    assert metric_of("val/probe/l1/knn") is METRICS["probe/knn"]
    assert metric_of("val/block_3/l1_ratio") is METRICS["l1_ratio"]
    assert metric_of("train/boundary") == metric_of("lr") == Metric("")  # a loss term, not boundary AP


def test_the_docs_print_the_table() -> None:
    assert markdown_table() in DOCS.read_text(encoding="utf-8")
