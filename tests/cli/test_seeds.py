"""The spread over seeds, and what may not pass for one."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main
from distill.runs.differences import differing
from tests.run_folders import write_run


def written(folder: Path, seed: int, ap: float, **planted: Any) -> str:
    return str(write_run(folder, seed=seed, scores={"test/mask/AP": ap, "test/mask/AP_large": None}, **planted))


def test_mean_and_sample_standard_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [written(tmp_path / str(seed), seed, ap) for seed, ap in ((0, 0.3), (1, 0.5), (2, 0.7))]
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
    key = "model.init_args.optim.lr"
    runs = [written(tmp_path / str(seed), seed, 0.3, recipe={key: 0.1 * (seed + 1)}) for seed in (0, 1)]
    assert main(["seeds", *runs]) == 0
    assert f"Beside the seed, the runs differ in {key}." in capsys.readouterr().out


def test_keys_that_only_one_recipe_has_differ() -> None:
    recipes = [{"seed_everything": 0, "data": {"init_args": {"seed": 0}}}, {"seed_everything": 1, "trainer": {"x": 1}}]
    assert differing(recipes) == ["trainer.x"]


def test_what_is_no_spread_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, same = (written(tmp_path / name, 0, 0.3) for name in ("first", "same"))
    other = written(tmp_path / "other", 1, 0.3)
    landcover = str(write_run(tmp_path / "landcover", "segmentation", seed=1, scores={"test/mIoU": 0.5}))
    for words, message in (
        ([first], "two runs or more"),
        ([first, first], "two runs or more"),
        ([first, same], "have the same seed, 0"),
        ([first, str(tmp_path / "none")], "there is no"),
        ([first, other, "--stage", "validate"], "run `distill validate"),
        ([first, landcover], "not of one task"),
    ):
        assert main(["seeds", *words]) == 2
        assert message in capsys.readouterr().err


def test_scores_taken_in_another_way_are_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path / "0", 0, 0.3, scored={"step": 8})
    assert main(["seeds", first, written(tmp_path / "1", 1, 0.3, scored={"step": 9})]) == 0
    for name, scored, said in (
        ("checkpoint", {"checkpoint": "best.ckpt"}, "checkpoint is last.ckpt and best.ckpt"),
        ("images", {"image_set": "ffffffffffff"}, "image_set is 0123456789ab and ffffffffffff"),
    ):
        capsys.readouterr()
        assert main(["seeds", first, written(tmp_path / name, 1, 0.3, scored=scored)]) == 2
        assert f"not scored in the same way, {said}" in capsys.readouterr().err
