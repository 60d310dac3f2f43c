"""What a run folder says of itself."""

import json
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.runs.folder import RunFolder, RunState


def test_states(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.state is RunState.FRESH
    run.require_writable()
    (run.path / "notes.txt").write_text("mine")
    assert run.state is RunState.FRESH
    run.checkpoints.mkdir()
    (run.checkpoints / ".last.ckpt.killed").touch()
    assert (run.state, run.holds_weights) == (RunState.FRESH, False)
    (run.checkpoints / run.PREVIOUS).touch()
    assert (run.state, run.holds_weights) == (RunState.INTERRUPTED, True)
    run.finish({"student": "RS4D tiny", "steps": 8}, {"val/l1": 0.5})
    assert run.state is RunState.FINISHED
    assert run.read_summary() == ({"student": "RS4D tiny", "steps": 8}, {"val/l1": 0.5})
    seeds = RunFolder(tmp_path / "seeds")
    seeds.seed(3).require_writable()
    seeds.seed(3).begin("model: {}", {"cpu": "one"})
    assert (seeds.state, seeds.seed(3).state) == (RunState.SEVERAL_SEEDS, RunState.FRESH)
    assert seeds.seed(3).read_environment() == {"cpu": "one", "started_in": str(Path.cwd())}


def test_the_summary_of_an_older_version_is_read(tmp_path: Path) -> None:
    """It holds learning rates among the metrics."""
    run = RunFolder(tmp_path)
    content = {"data": "ImageFolder", "lr-AdamW/pg1": 1e-4, "train/l1": 0.1, "val/mask/AP": None, "last_map": "neck"}
    run.summary.write_text(json.dumps(content))
    facts, metrics = run.read_summary()
    assert facts == {"data": "ImageFolder", "last_map": "neck"}
    assert metrics == {"train/l1": 0.1, "val/mask/AP": None}


def test_scoring_alone_is_cleared(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for path in (
        run.recipe,
        run.card,
        run.scores("test"),
        run.figure("validate", "confusion"),
        run.predictions("test"),
    ):
        path.touch()
    run.clear_scores()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.md", "recipe.yaml"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match=r"is no run folder: it has no recipe\.yaml"):
        run.read_recipe()
    with pytest.raises(UserError, match=r"has no test\.json; run `distill test"):
        run.read_scores("test")
    assert run.read_facts("test") == run.read_environment() == {}
    (run.path / "student.safetensors").touch()
    with pytest.raises(UserError, match="already holds a run"):
        run.require_fresh(overwrite=False, resuming=False)
    run.require_fresh(overwrite=True, resuming=False)
