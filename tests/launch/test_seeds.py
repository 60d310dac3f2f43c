"""A recipe with `run.seeds`: a run for each, the table, and what happens when it is started again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from distill.cli import main
from distill.runs.folder import RunFolder, RunState
from distill.weights import read_state_dict

QUICK = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--run.checkpoint_every=1"]


@pytest.fixture
def quick_recipe(distill_recipe: Path) -> Path:
    """A distillation into a small convolutional network, which can be cut off, see `tests.launch.resuming.CutSeed`."""
    recipe = yaml.safe_load(distill_recipe.read_text())
    recipe["model"]["init_args"]["student"] = {
        "class_path": "students.TimmStudent",
        "init_args": {"name": "test_convnext"},
    }
    recipe["model"]["init_args"]["corruption"] = {"level": "image", "patch_size": 8}
    recipe["trainer"]["callbacks"] = [{"class_path": "tests.launch.resuming.CutSeed"}]
    distill_recipe.write_text(yaml.safe_dump(recipe))
    return distill_recipe


@pytest.fixture
def several(quick_recipe: Path) -> list[str]:
    return [str(quick_recipe), "--run.seeds=[0, 3]", *QUICK]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def changed(folder: Path) -> dict[str, int]:
    """When the students were written, by run."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("student.safetensors")}


def test_every_seed_is_the_run_it_would_be_alone(
    quick_recipe: Path, several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["fit", *several]) == 0
    said = capsys.readouterr().out
    assert "2 runs, seeds 0, 3" in said
    assert said.count("Next:") == 1
    assert said.index("validate_seeds.json") < said.index("Next:")
    assert sorted(path.name for path in folder.iterdir()) == ["recipe.yaml", "seed0", "seed3", "validate_seeds.json"]
    assert main(["fit", str(quick_recipe), *QUICK, "--seed_everything=3", f"--run.dir={tmp_path / 'alone'}"]) == 0
    alone, together = (read_state_dict(run / "student.safetensors") for run in (tmp_path / "alone", folder / "seed3"))
    assert all(torch.equal(tensor, together[name]) for name, tensor in alone.items())
    first, second = (read(folder / run / "validate.json")["val/l1"] for run in ("seed0", "seed3"))
    assert first != second
    row = read(folder / "validate_seeds.json")["val/l1"]
    assert row == pytest.approx({"mean": (first + second) / 2, "std": abs(first - second) / 2**0.5, "runs": 2})

    before = changed(folder)
    capsys.readouterr()
    assert main(["fit", *several]) == 0
    assert changed(folder) == before, "a finished seed was fitted again"
    assert "Next:" not in capsys.readouterr().out
    assert main(["seeds", str(folder), "--stage", "validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["val/l1"] == row
    (folder / "validate_seeds.json").unlink()
    assert main(["validate", str(folder), "--ckpt_path=best"]) == 0
    assert (folder / "validate_seeds.json").is_file()


def test_starting_again_skips_resumes_and_extends(
    several: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    monkeypatch.setenv("CUT_SEED", "3")
    with pytest.raises(ConnectionAbortedError):
        main(["fit", *several])
    monkeypatch.delenv("CUT_SEED")
    assert [folder.seed(seed).state for seed in (0, 3)] == [RunState.FINISHED, RunState.INTERRUPTED]
    assert folder.state is RunState.SEVERAL_SEEDS
    before = changed(folder.path)
    capsys.readouterr()
    assert main(["fit", *several]) == 0
    assert "training: 1 step after step 1" in capsys.readouterr().out
    after = changed(folder.path)
    assert after.pop("seed3")
    assert after == before, "a finished seed was fitted again"

    assert main(["fit", *several, "--run.seeds=[3, 5]"]) == 0
    assert changed(folder.path).keys() == {"seed0", "seed3", "seed5"}
    assert read(folder.seed_scores("validate"))["val/l1"]["runs"] == 2
    other = [*several, "--trainer.max_steps=3"]
    assert main(["fit", *other]) == 2
    assert "seed0 holds a run of another recipe, which differs in trainer.max_steps" in capsys.readouterr().err
    assert main(["fit", *other, "--run.overwrite=true"]) == 0
    assert [folder.seed(seed).read_summary()[0]["steps"] for seed in (0, 3, 5)] == [3, 3, 2]


def test_fine_tuning_is_tested(finetune_recipe: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(finetune_recipe.read_text())
    recipe["run"]["seeds"] = [0, 1]
    recipe["trainer"] |= {"max_steps": 1, "limit_val_batches": 0}
    finetune_recipe.write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(finetune_recipe)]) == 0
    runs = [read(tmp_path / "run" / name / "test.json") for name in ("seed0", "seed1")]
    row = read(tmp_path / "run" / "test_seeds.json")["test/mask/AP"]
    assert row["mean"] == pytest.approx(sum(scores["test/mask/AP"] for scores in runs) / 2)
    assert main(["mmdet-config", str(tmp_path / "run"), "--output", str(tmp_path / "config.py")]) == 0


def test_what_cannot_be_is_refused(
    quick_recipe: Path, several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert main(["fit", *words]) == 2
        return capsys.readouterr().err

    for seeds in ("[]", "[1, 1]", "[0, -1]"):
        assert "give two or more different ones" in refused(*several, f"--run.seeds={seeds}")
    assert "resumed by themselves" in refused(*several, "--ckpt_path=last")
    assert "/nowhere" in refused(*several, "--data.root=/nowhere")
    assert not (tmp_path / "run").exists()
    assert main(["validate", *several, "--ckpt_path=/some.ckpt"]) == 2
    assert "give last or best" in capsys.readouterr().err
    for name in ("seed0", "seed3"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "recipe.yaml").touch()
    assert "holds the runs of several seeds" in refused(str(quick_recipe))
    (tmp_path / "one" / "checkpoints").mkdir(parents=True)
    assert "holds the run of a single seed" in refused(*several, f"--run.dir={tmp_path / 'one'}")
