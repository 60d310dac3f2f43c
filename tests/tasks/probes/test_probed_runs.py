"""A distillation with probes: where scores arrive, which weights they are of, and that training sees nothing of it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import distill
from distill import ObjectProbe
from distill.cli import main
from distill.tasks.probes.features import student_features

NAMES = ("linear", "knn", "tokens")


@pytest.fixture
def recipe(distill_recipe: Path, scenes: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load(distill_recipe.read_text())
    recipe["model"]["init_args"]["student"]["init_args"]["patch_size"] = 16
    recipe["trainer"] |= {
        "max_steps": 4,
        "val_check_interval": 2,
        "callbacks": [{"class_path": "distill.EMA", "init_args": {"decay": 0.9}}],
    }
    return recipe


@pytest.fixture
def arguments(scenes: Path) -> dict[str, Any]:
    return {
        "train_images": str(scenes / "train" / "images"),
        "train_annotations": str(scenes / "train" / "annotations.json"),
        "val_images": str(scenes / "test" / "images"),
        "val_annotations": str(scenes / "test" / "annotations.json"),
        "classes": ["ship", "aircraft"],
        "image_size": 32,
        "shots": None,
    }


def fit(recipe: dict[str, Any], run: Path, probes: list[dict[str, Any]]) -> Path:
    recipe["model"]["init_args"]["probes"] = [{"class_path": "distill.ObjectProbe", "init_args": p} for p in probes]
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe | {"run": {"dir": str(run), "pictures_every": 0}}))
    assert main(["fit", str(path)]) == 0
    return run


def test_a_run_is_the_same_with_and_without_probes(
    recipe: dict[str, Any], arguments: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probed = fit(recipe, tmp_path / "probed", [arguments])
    shown = capsys.readouterr().out
    plain = fit(recipe, tmp_path / "plain", [])
    assert (probed / "student.safetensors").read_bytes()[-4096:] == (plain / "student.safetensors").read_bytes()[-4096:]
    losses = [
        [row["train/loss"] for row in csv.DictReader((run / "metrics.csv").open()) if row["train/loss"]]
        for run in (probed, plain)
    ]
    assert losses[0] == losses[1]

    names = [f"val/probe/objects/{name}" for name in NAMES]
    rows = [row for row in csv.DictReader((probed / "metrics.csv").open()) if row[names[0]]]
    assert [int(row["step"]) for row in rows] == [1, 3]
    summary = json.loads((probed / "summary.json").read_text())
    assert all(name in summary for name in names)
    assert "| probe objects | " in (probed / "card.md").read_text()
    assert "probe objects linear" in shown or "probe/objects/linear" in shown

    # Averaged weights are in place: the last scores are those of the exported student.
    exported = ObjectProbe(**arguments).score(student_features(distill.load_student(probed / "student.safetensors")))
    assert {name: summary[f"val/probe/objects/{name}"] for name in NAMES} == pytest.approx(exported, abs=1e-6)
    validated = distill.validate(probed)
    assert {name: validated[f"val/probe/objects/{name}"] for name in NAMES} == pytest.approx(exported, abs=1e-6)


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ([{"shots": 500}], "shots is 500"),
        ([{}, {}], "two probes named 'objects'"),
        ([{"bogus": 1}], "unknown key in model.probes 'bogus'"),
    ],
)
def test_wrong_probes_stop_before_the_run(
    recipe: dict[str, Any],
    arguments: dict[str, Any],
    tmp_path: Path,
    probes: list[dict[str, Any]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = [{"class_path": "distill.ObjectProbe", "init_args": arguments | probe} for probe in probes]
    recipe["model"]["init_args"]["probes"] = wrong
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(recipe | {"run": {"dir": str(tmp_path / "run")}}))
    assert main(["fit", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
