"""The spread over seeds, and what may not pass for one."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.cli import main
from distill.runs.differences import differing


def write_run(folder: Path, seed: int, scores: dict[str, float | None], **model: Any) -> str:
    folder.mkdir()
    recipe = {"seed_everything": seed, "run": {"dir": str(folder)}, "model": {"init_args": {"lr": 0.1, **model}}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "test.json").write_text(json.dumps(scores))
    return str(folder)


def test_mean_and_sample_standard_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        write_run(tmp_path / str(seed), seed, {"test/mask/AP": ap, "test/mask/AP_large": None})
        for seed, ap in ((0, 0.3), (1, 0.5), (2, 0.7))
    ]
    assert main(["seeds", *runs]) == 0
    out = capsys.readouterr().out
    assert "3 runs, seeds 0, 1, 2" in out
    assert "50.0 %  ± 20.0 %" in out
    assert "differ in" not in out
    assert main(["seeds", *runs[:2], "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out).items()
    assert row[0] == "test/mask/AP"
    assert row[1] == pytest.approx({"mean": 0.4, "std": math.sqrt(0.02), "runs": 2})


def test_other_differences_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / str(seed), seed, {"test/a": 1.0}, lr=0.1 * (seed + 1)) for seed in (0, 1)]
    assert main(["seeds", *runs]) == 0
    assert "Beside the seed, the runs differ in model.init_args.lr." in capsys.readouterr().out


def test_keys_that_only_one_recipe_has_differ() -> None:
    recipes = [{"seed_everything": 0, "data": {"init_args": {"seed": 0}}}, {"seed_everything": 1, "trainer": {"x": 1}}]
    assert differing(recipes) == ["trainer.x"]


def test_what_is_no_spread_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, same = (write_run(tmp_path / name, 0, {"test/a": 1.0}) for name in ("first", "same"))
    for words, message in (
        ([first], "two runs or more"),
        ([first, first], "two runs or more"),
        ([first, same], "have the same seed, 0"),
        ([first, str(tmp_path)], "is no run folder"),
        ([first, same, "--stage", "validate"], "have the same seed"),
    ):
        assert main(["seeds", *words]) == 2
        assert message in capsys.readouterr().err
    other = write_run(tmp_path / "other", 1, {"test/a": 1.0})
    assert main(["seeds", first, other, "--stage", "validate"]) == 2
    assert "run `distill validate" in capsys.readouterr().err


def test_scores_taken_in_another_way_are_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [Path(write_run(tmp_path / str(seed), seed, {"test/a": 1.0})) for seed in (0, 1)]
    facts = [{"checkpoint": "last.ckpt", "step": step, "max_detections": 100} for step in (8, 9)]
    for run, own in zip(runs, facts, strict=True):
        (run / "test_facts.json").write_text(json.dumps(own))
    assert main(["seeds", *map(str, runs)]) == 0
    (runs[1] / "test_facts.json").write_text(json.dumps(facts[1] | {"checkpoint": "best.ckpt"}))
    capsys.readouterr()
    assert main(["seeds", *map(str, runs)]) == 2
    assert "not scored in the same way, checkpoint is last.ckpt and best.ckpt" in capsys.readouterr().err
