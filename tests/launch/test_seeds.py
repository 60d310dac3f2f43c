"""A recipe with `run.seeds`: a run for each, the table, and what happens when it is started again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from distill.cli import main
from distill.errors import UserError
from distill.launch.seeds import run_each
from distill.tasks.distillation import DistillationModule
from distill.weights import read_state_dict

QUICK = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--run.checkpoint_every=1"]


@pytest.fixture
def several(distill_recipe: Path) -> list[str]:
    return [str(distill_recipe), "--run.seeds=[0, 3]", *QUICK]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def changed(folder: Path) -> dict[str, int]:
    """When the results of training were written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("student.safetensors")}


def test_every_seed_is_the_run_it_would_be_alone(
    distill_recipe: Path, several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["fit", *several]) == 0
    assert "2 runs, seeds 0, 3" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["recipe.yaml", "seed0", "seed3", "validate_seeds.json"]
    assert main(["fit", str(distill_recipe), *QUICK, "--seed_everything=3", f"--run.dir={tmp_path / 'alone'}"]) == 0
    alone, together = (read_state_dict(run / "student.safetensors") for run in (tmp_path / "alone", folder / "seed3"))
    assert all(torch.equal(tensor, together[name]) for name, tensor in alone.items())
    first, second = (read(folder / run / "validate.json")["val/l1"] for run in ("seed0", "seed3"))
    assert first != second
    row = read(folder / "validate_seeds.json")["val/l1"]
    assert row == pytest.approx({"mean": (first + second) / 2, "std": abs(first - second) / 2**0.5, "runs": 2})

    before = changed(folder)
    assert main(["fit", *several]) == 0
    assert changed(folder) == before, "a finished seed was fitted again"
    capsys.readouterr()
    assert main(["seeds", str(folder), "--stage", "validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["val/l1"] == row
    (folder / "validate_seeds.json").unlink()
    assert main(["validate", str(folder), "--ckpt_path=best"]) == 0
    assert (folder / "validate_seeds.json").is_file()


class Runs:
    """Stands in for the command: a run that leaves what a real one leaves, or is cut off before its end."""

    def __init__(self, folder: Path, seeds: list[int], steps: int = 2, overwrite: bool = False) -> None:
        self.folder, self.started, self.cut = folder, [], ""
        self.stage = "fit"
        run = SimpleNamespace(seeds=seeds, experiment="name", overwrite=overwrite)
        self.settings = run
        self.module_class = DistillationModule
        self.config = {"fit": SimpleNamespace(run=run, ckpt_path=None)}
        self.recipe = {"seed_everything": 0, "trainer": {"max_steps": steps}}

    def resolved_recipe(self) -> str:
        return yaml.safe_dump(self.recipe)

    def start(self, words: list[str]) -> None:
        stage, *rest = words
        if stage == "validate":
            run = Path(rest[0])
            self.started.append(f"validate {run.name}")
            (run / "validate.json").write_text('{"val/l1": 0.5}')
            return
        given = dict(word.removeprefix("--").split("=") for word in rest)
        run = Path(given["run.dir"])
        self.started.append(f"fit {run.name}{' resumed' * ('ckpt_path' in given)}")
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run / "checkpoints" / "last.ckpt").touch()
        (run / "recipe.yaml").write_text(
            yaml.safe_dump(self.recipe | {"seed_everything": int(given["seed_everything"])})
        )
        if run.name == self.cut:
            raise ConnectionAbortedError
        (run / "summary.json").touch()

    def go(self) -> list[str]:
        run_each(self, [], self.start)  # type: ignore[arg-type]
        return self.started


def test_starting_again_skips_resumes_and_extends(tmp_path: Path) -> None:
    cut = Runs(tmp_path, [0, 3, 4])
    cut.cut = "seed3"
    with pytest.raises(ConnectionAbortedError):
        cut.go()
    assert cut.started == ["fit seed0", "validate seed0", "fit seed3"]
    again = ["validate seed0", "fit seed3 resumed", "validate seed3", "fit seed4", "validate seed4"]
    assert Runs(tmp_path, [0, 3, 4]).go() == again
    assert read(tmp_path / "validate_seeds.json")["val/l1"]["runs"] == 3
    assert Runs(tmp_path, [4, 5]).go() == ["validate seed4", "fit seed5", "validate seed5"]
    with pytest.raises(UserError, match=r"seed0 holds a run of another recipe, which differs in trainer\.max_steps"):
        Runs(tmp_path, [0, 3], steps=4).go()
    anew = ["fit seed0", "validate seed0", "fit seed3", "validate seed3"]
    assert Runs(tmp_path, [0, 3], steps=4, overwrite=True).go() == anew


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
    distill_recipe: Path, several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert "holds the runs of several seeds" in refused(str(distill_recipe))
    (tmp_path / "one" / "checkpoints").mkdir(parents=True)
    assert "holds the run of a single seed" in refused(*several, f"--run.dir={tmp_path / 'one'}")
