"""Which models of a comparison are timed, and what that leaves as it was. How long they take is not tested."""

import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.evaluation import turns
from distill.launch.measure import measure
from distill.report.compare.comparison import compare_records
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.run_folders import write_run

SMALL = {"data.init_args.image_size": 32, "model.init_args.student.init_args.image_size": 32}
DISTILLATION = SMALL | {"model.init_args.target": "embedding"}
TEACHER = "model.init_args.teacher.init_args"


@pytest.fixture(autouse=True)
def _few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_SECONDS", 0.01)
    monkeypatch.setattr(turns, "_MOST", 0.01)


def small_run(path: Path, recipe: dict[str, Any] | None = None, **settings: Any) -> RunFolder:
    """A run of RS4D tiny on images of 32 px."""
    folder = write_run(path, recipe=SMALL | (recipe or {}), **settings)
    facts = folder.summary.read_text()
    folder.summary.write_text(facts.replace('"image_size": 128', '"image_size": 32'))
    return folder


def measured(*folders: RunFolder) -> dict[str, dict[str, float]]:
    """Costs by the name of the run."""
    found = measure([RunRecord.read(folder) for folder in folders]).costs
    return {path.name: costs for path, costs in found.items()}


def test_runs_of_one_architecture_share_their_times(tmp_path: Path) -> None:
    scratch = small_run(tmp_path / "scratch")
    distilled = small_run(tmp_path / "distilled", init="distilled", seed=1)  # whose file of weights is gone
    larger = small_run(tmp_path / "larger", student="RS4D small")
    state, numbers = torch.get_rng_state(), random.getstate()
    threads = torch.get_num_threads()
    costs = measured(scratch, distilled, larger)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == numbers
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    assert costs["scratch"] == costs["distilled"]
    assert costs["scratch"].keys() == {"cpu_ms", "memory_mb"} | ({"gpu_ms"} if torch.cuda.is_available() else set())
    assert all(costs["larger"][key] != costs["scratch"][key] for key in costs["scratch"])


def test_the_comparison_shows_what_was_measured(tmp_path: Path) -> None:
    scores = {"test/mask/AP": 0.3, "test/box/AP": 0.3}
    records = [RunRecord.read(small_run(tmp_path / "scratch", scores=scores))]
    found = measure(records)
    content = compare_records(records, measured=found).as_json()
    assert content["measured"] == {
        "cpu": found.machine["cpu"],
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "torch": torch.__version__,
        "rounds": found.rounds,
    }
    value = content["sections"][0]["rows"][0]["values"]["cpu_ms"]
    assert value["mean"] == pytest.approx(found.costs[records[0].folder.path]["cpu_ms"], rel=1e-5)


def test_teachers_of_distillations_are_timed(tmp_path: Path, vit_weights: Path) -> None:
    name = {f"{TEACHER}.name": "vit_tiny_patch16_224"}
    own = small_run(tmp_path / "own", DISTILLATION | name, task="distillation", weights=str(vit_weights))
    fetched = {f"{TEACHER}.checkpoint": None, f"{TEACHER}.pretrained": True}
    published = small_run(tmp_path / "published", DISTILLATION | name | fetched, task="distillation")
    costs = measured(own, published)
    assert costs["own"]["cpu_ms"] == costs["published"]["cpu_ms"]
    # Two blocks of timm's model, and all twelve.
    assert costs["own"]["teacher_memory_mb"] < costs["published"]["teacher_memory_mb"]
    records = [RunRecord.read(published)]
    found = measure(records)
    teacher = compare_records(records, measured=found).as_json()["sections"][0]["rows"][0]
    assert teacher["role"] == "teacher"
    expected = found.costs[published.path]["teacher_cpu_ms"]
    assert teacher["values"]["cpu_ms"]["mean"] == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_timed_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scratch = small_run(tmp_path / "scratch")
    gone = small_run(tmp_path / "gone", {"model.init_args.student.class_path": "students.Gone"})
    refuses = small_run(tmp_path / "refuses", {"model.init_args.student.init_args.patch_size": 64})
    file = tmp_path / "deleted.safetensors"
    distil = small_run(tmp_path / "distil", DISTILLATION, task="distillation", weights=str(file))
    elsewhere = {"model.init_args.teacher": {"class_path": "teachers.ViT", "init_args": {"name": "vit_tiny"}}}
    own = small_run(tmp_path / "own", DISTILLATION | elsewhere, task="distillation")
    unsized = write_run(tmp_path / "unsized", recipe={"data.init_args.image_size": None}, finished=False)
    with caplog.at_level(logging.WARNING):
        costs = measured(scratch, gone, refuses, distil, own, unsized)
    assert costs.keys() == {"scratch", "distil", "own"}
    assert "teacher_cpu_ms" not in costs["distil"] | costs["own"]
    lines = [record.getMessage() for record in caplog.records if record.name == "distill.launch.measure"]
    for line, expected in zip(
        lines,
        [
            f"the student of {tmp_path}/gone is not timed: student of {tmp_path}/gone/recipe.yaml cannot be built",
            f"the student of {tmp_path}/refuses is not timed: ",
            f"the teacher of {tmp_path}/distil is not timed: there is no {file}",
            f"the teacher of {tmp_path}/own is not timed: {tmp_path}/own/recipe.yaml names no file as",
            f"the student of {tmp_path}/unsized is not timed: {tmp_path}/unsized/recipe.yaml has no data.image_size",
        ],
        strict=True,
    ):
        assert line.startswith(expected)
        assert "\n" not in line
    assert measured(gone) == {}
