"""Whole runs under a corruption that changes."""

import csv
from pathlib import Path

import pytest
import torch

from distill.cli import main
from tests.launch.resuming import assert_same_weights, cut_and_resume

GUIDED_BLOCKS = [f"--model.corruption.{word}" for word in ("mask_shape=block", "guide=high", "noise_scale=signal")]
PLATEAU = [f"--model.corruption.{word}" for word in ("control=plateau", "gap=[2.0,3.0]", "steps=8", "sigma=[0.5,1.5]")]
EMA = ["--trainer.callbacks+=distill.EMA", "--trainer.callbacks.decay=0.9"]


def column(folder: Path, name: str) -> list[float]:
    """What a run logged by step."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_a_resumed_control_goes_on_where_it_was(distill_recipe: Path, tmp_path: Path) -> None:
    """Under EMA, which swaps buffers with those of the average while a validation runs."""
    words = [*PLATEAU, *GUIDED_BLOCKS, *EMA]
    assert main(["fit", str(distill_recipe), *words]) == 0
    cut_and_resume(distill_recipe, tmp_path / "cut", *words, "--run.checkpoint_every=3", cut=7)
    assert_same_weights(tmp_path / "run", tmp_path / "cut")
    stored = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["current_model_state"]
        for name in ("run", "cut")
    ]
    for name in ("strength", "progress", "reference"):
        assert torch.equal(stored[0][f"corruption.{name}"], stored[1][f"corruption.{name}"]), name
    strength = column(tmp_path / "run", "corruption/strength")
    assert strength == pytest.approx([0, 0, 0, 0, 0, 1 / 8, 2 / 8, 3 / 8]), "from the validation at step 4 on"
    assert column(tmp_path / "cut", "corruption/strength") == strength
    assert column(tmp_path / "run", "corruption/mask") == pytest.approx([round(64 * 0.2 * s) / 64 for s in strength])
    assert column(tmp_path / "run", "corruption/reference")[4] == pytest.approx(
        column(tmp_path / "run", "val/l1_ratio")[0]
    )


def test_an_old_key_is_read_and_named(distill_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(distill_recipe), "--model.corruption.ratio=adaptive", "--trainer.max_steps=nothing"]) == 2
    assert (
        "ratio of distill.tasks.corruption.settings.CorruptionSettings is called control now" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("control=plateu", "did you mean plateau"),
        ("gap=1.5", "model.corruption.gap"),
        ("block_area=[0.2, 0.1]", "the smaller first"),
        ("sigma=[1.0]", "model.corruption.sigma"),
    ],
)
def test_a_wrong_value_is_one_line(
    distill_recipe: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert main(["fit", str(distill_recipe), f"--model.corruption.{word}"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "Traceback" not in error
    assert not (distill_recipe.parent / "run").exists()
