"""Scores of a test and what was scored are of the same test, whatever becomes of its pictures."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.errors import UserError
from distill.evaluation.segmentation import PixelConfusion
from distill.files import write_json
from distill.report.write_scores import report_scores
from distill.runs.folder import RunFolder


def test_a_figure_that_cannot_be_written_leaves_scores_and_facts_of_one_test(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.facts("test"), {"checkpoint": "last.ckpt"})
    write_json(folder.scores("test"), {"test/mIoU": 0.25})
    (folder.figure("test", "confusion") / "in the way").mkdir(parents=True)
    model = SimpleNamespace(scores=dict, evaluation=PixelConfusion(["water"]))
    with pytest.raises(UserError, match="cannot be written"):
        report_scores(folder, "test", model, {"test/mIoU": 0.5}, {"checkpoint": "best.ckpt"})
    assert folder.read_facts("test") == {"checkpoint": "best.ckpt", "images": 0}
    assert folder.read_scores("test") == {"test/mIoU": 0.5}
