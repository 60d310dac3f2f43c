"""The loop of one process among others that predict the same scene."""

from pathlib import Path

import pytest
from rich.console import Console

from distill.launch.predict_progress import PredictProgress
from distill.launch.predict_sources import Source
from distill.launch.predict_work import PredictWork, Share
from distill.scene.job import SceneJob
from distill.scene.journal import Journal
from distill.scene.options import PredictOptions
from tests.scene.engine import Squares, facts, write_scene


@pytest.mark.parametrize("call", [1, 2])
def test_a_scene_that_another_process_finishes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Its rows are gone: as rows are looked for, and after none was found missing."""
    scene, out, options = write_scene(tmp_path / "scene.tif", 60, 80), tmp_path / "out", PredictOptions(overlay=False)
    out.mkdir()
    missing, calls = Journal.missing, []

    def finished_meanwhile(journal: Journal) -> list[int]:
        calls.append(0)
        found = missing(journal)
        if len(calls) == call:
            with SceneJob(scene, "scene", out, options, facts()) as job:
                for row in missing(job.journal):
                    job.predict_row(Squares(), row)
                job.finish()
        return found

    monkeypatch.setattr(Journal, "missing", finished_meanwhile)
    progress = PredictProgress(1, Console(quiet=True), None)
    work = PredictWork([Source(scene, "scene")], out, options, facts(), False, progress)
    done = work.joined([work.predict(Squares(), Share(Source(scene, "scene")), 1)])
    assert list(done.files) == ["predictions.json", "images.json", "summary.json"]
