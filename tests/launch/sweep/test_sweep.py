"""Small real sweeps: interrupted, resumed and extended, with a failing cell, as a job array, and a search."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.utilities import rank_zero_only

import distill
from distill.cli import main
from distill.errors import Stopped, UserError
from distill.runs.folder import RunFolder
from distill.weights import read_state_dict
from tests.launch.resuming import Interrupt

NOISE = "--over=model.corruption.noise=0,0.4"
CELLS = ("noise=0", "noise=0.4")


@pytest.fixture
def quick(distill_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A distillation of two steps into a small convolutional network, started in a folder of its own."""
    recipe = yaml.safe_load(distill_recipe.read_text())
    student = {"class_path": "students.TimmStudent", "init_args": {"name": "test_convnext"}}
    recipe["model"]["init_args"] |= {"student": student, "corruption": {"level": "image", "patch_size": 8}}
    recipe["trainer"] |= {"max_steps": 2, "val_check_interval": 2}
    recipe["run"] = {"checkpoint_every": 1, "pictures_every": 0}
    distill_recipe.write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(distill_recipe.parent)
    return distill_recipe.name


def written(folder: Path) -> dict[str, int]:
    """When students were written, by run."""
    return {
        str(path.parent.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("student.safetensors")
    }


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_sweep_goes_on_where_it_stopped_and_is_extended(
    quick: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("runs/sweep_distill")
    callback = {"class_path": "tests.launch.resuming.CutSeed"}
    cut = ["sweep", quick, NOISE, "--seeds=0,3", f"--trainer.callbacks={json.dumps([callback])}"]
    monkeypatch.setenv("CUT_SEED", "3")
    assert main(cut) == 1
    said = capsys.readouterr()
    failed = [line for line in said.err.splitlines() if line.startswith("distill: noise")]
    assert [line.split(" failed: ")[0] for line in failed] == [f"distill: {cell}/seed3" for cell in CELLS]
    assert "ConnectionAbortedError" in failed[0]
    assert "ConnectionAbortedError" in (folder / "failures" / "noise=0,seed3.txt").read_text()
    assert [len(row["seeds"]) for row in read(folder / "sweep.json")["rows"]] == [1, 1]
    before = written(folder)
    assert before.keys() == {f"{cell}/seed0" for cell in CELLS}

    monkeypatch.delenv("CUT_SEED")
    assert main(cut) == 0
    said = capsys.readouterr()
    assert said.out.count("training: 1 step after step 1") == 2, "interrupted runs were not resumed"
    after = written(folder)
    assert {name: after[name] for name in before} == before, "a finished run was fitted again"
    assert after.keys() == {f"{cell}/seed{seed}" for cell in CELLS for seed in (0, 3)}
    content = read(folder / "sweep.json")
    assert content["cells"]["noise=0.4"] == {"model.corruption.noise": "0.4"}
    assert not content["failures"]
    ratios = {
        (cell, seed): RunFolder(folder / cell).seed(seed).read_summary()[1]["val/l1_ratio"] or 0.0
        for cell in CELLS
        for seed in (0, 3)
    }
    row = content["rows"][1]["values"]["l1_ratio"]
    assert row["mean"] == pytest.approx((ratios[CELLS[1], 0] + ratios[CELLS[1], 3]) / 2, rel=1e-5)
    difference = content["rows"][1]["difference"]["l1_ratio"]["each"]
    expected = [[seed, pytest.approx(ratios[CELLS[1], seed] - ratios[CELLS[0], seed], rel=1e-3)] for seed in (0, 3)]
    assert difference == expected
    names = [row["name"] for row in read(folder / "compare.json")["sections"][0]["rows"] if row["role"] == "student"]
    assert len(set(names)) == 2
    assert all("noise" in name for name in names), names
    assert (folder / "compare.html").is_file()

    assert main(["fit", quick, "--model.corruption.noise=0.4", "--seed_everything=3", "--run.dir=alone"]) == 0
    alone, swept = (
        read_state_dict(run / "student.safetensors") for run in (Path("alone"), folder / CELLS[1] / "seed3")
    )
    assert all(torch.equal(tensor, swept[name]) for name, tensor in alone.items())

    capsys.readouterr()
    assert main([*cut, "--trainer.max_steps=3"]) == 2
    assert "holds a run of another recipe, which differs in trainer.max_steps" in capsys.readouterr().err
    assert main([*cut, "--table"]) == 0
    assert written(folder) == after
    assert "Wrote runs/sweep_distill/: sweep.json" in capsys.readouterr().out
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert main([*cut, "--table"]) == 0
    assert capsys.readouterr().out == "", "another process than the first printed the table"


def test_of_several_processes_none_goes_on_without_the_others(
    quick: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else it would wait for them in the next run, and they for it in this one."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("CUT_SEED", "0")
    cut = json.dumps([{"class_path": "tests.launch.resuming.CutSeed"}])
    assert main(["sweep", quick, NOISE, f"--trainer.callbacks={cut}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("distill: error: noise=0/seed0 failed: ConnectionAbortedError")
    assert error.count("\n") == 1
    assert not Path("runs/sweep_distill/noise=0.4").exists()


def test_a_user_stops_all_of_it(quick: str) -> None:
    interrupt = {"class_path": f"{Interrupt.__module__}.Interrupt", "init_args": {"step": 1, "number": 2}}
    with pytest.raises(Stopped):
        distill.sweep(quick, {"model.corruption.noise": [0, 0.4]}, trainer={"callbacks": [interrupt]})
    assert not Path("runs/sweep_distill/noise=0.4").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "needs --over"),
        (("--over=model.corruption.noise=0,lots",), "noise=lots: model.corruption.noise: given lots"),
        (("--over=model.corruption.nose=0,1",), "did you mean noise"),
        (("--over=data.root=absent,other",), "data.root 'absent' does not exist"),
        (("--over=model.corruption.noise=0..1",), "add --search N"),
        ((NOISE, "--seeds=a"), "whole numbers"),
        ((NOISE, "--seeds=1,1"), "different whole numbers"),
        ((NOISE, "--run.dir=here"), "--out"),
        ((NOISE, "--table"), "no run in"),
        ((NOISE, "--task=2"), "the runs 0 to 1"),
        ((NOISE, "--metric=val/l1_ratio"), "add --search N"),
        ((NOISE, "--search=2", "--metric=val/nothing"), "--metric is val/nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    quick: str, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", quick, *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(Path("runs").rglob("recipe.yaml"))


def test_a_job_array_may_read_what_only_the_nodes_have(quick: str) -> None:
    assert main(["sweep", quick, NOISE, "--data.root=/only/on/the/nodes", "--slurm"]) == 0


def test_a_job_array_runs_and_requeues_each_task(
    quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script itself, under stand-ins for SLURM's commands; one run is done for real."""
    words = ["sweep", quick, NOISE, "--seeds=0,1", "--out=a 5% grid"]
    assert main([*words, "--slurm"]) == 0
    said = capsys.readouterr().out
    assert "sbatch 'a 5% grid/sweep.sbatch'" in said
    script = Path("a 5% grid/sweep.sbatch").read_text()
    options = [word for line in script.splitlines() if line.startswith("#SBATCH") for word in shlex.split(line)[1:]]
    log = f"--output={Path.cwd()}/a 5%% grid/slurm/%A_%a.log"
    assert options[:3] == ["--job-name=a 5% grid", "--array=0-3", log]
    assert not list(Path("a 5% grid").rglob("recipe.yaml"))

    programs = tmp_path / "bin"
    programs.mkdir()
    stand_ins = {
        "srun": 'printf "%s\\t" "$@" >> calls; echo >> calls; exit $CODE',
        "scontrol": 'echo "scontrol $@" >> calls',
    }
    for name, text in stand_ins.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    codes = []
    for task, code in enumerate((0, 75, 1)):
        slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "77", "CODE": str(code)}
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(["bash", "a 5% grid/sweep.sbatch"], env=os.environ | slurm | {"PATH": path}, check=False)
        codes.append(ran.returncode)
    assert codes == [0, 0, 1]
    calls = Path("calls").read_text().splitlines()
    assert calls[2] == "scontrol requeue 77_1"
    started = calls[1].rstrip("\t").split("\t")
    assert started[1:3] == ["-m", "distill"]
    assert main(started[3:]) == 0
    assert [path.parent.name for path in Path("a 5% grid").rglob("student.safetensors")] == ["seed0"]
    assert main([*words, "--table"]) == 0
    assert [row["cell"] for row in read(Path("a 5% grid/sweep.json"))["rows"]] == ["noise=0.4"]


def test_a_search_is_resumed_and_keeps_to_what_it_sampled(quick: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    over = {"model.corruption.noise": "0.1..0.5", "model.optim.lr": "log:1e-4..1e-2"}
    interrupt = {"class_path": f"{Interrupt.__module__}.Interrupt", "init_args": {"step": 1, "number": 2}}
    with pytest.raises(Stopped):
        distill.sweep(quick, over, search=2, out="stopped", trainer={"callbacks": [interrupt]})
    first = distill.sweep(quick, over, search=1, out="found")
    both = distill.sweep(quick, over, search=2, out="found")
    assert first.table is not None
    assert both.table is not None
    assert [row["cell"] for row in both.table.rows] == ["trial0", "trial1"]
    assert both.table.rows[0] == first.table.rows[0]
    sampled = read(Path("found/sweep.json"))["cells"]
    assert sampled["trial0"] != sampled["trial1"]
    for trial, values in sampled.items():
        recipe = RunFolder(Path("found") / trial).seed(0).read_recipe()["model"]["init_args"]
        assert recipe["corruption"]["noise"] == float(values["model.corruption.noise"])
        assert recipe["optim"]["lr"] == float(values["model.optim.lr"])
    stopped = RunFolder(Path("stopped/trial0")).seed(0).read_recipe()["model"]["init_args"]
    assert stopped["optim"]["lr"] == float(sampled["trial0"]["model.optim.lr"]), "a sample is a function of its past"
    with pytest.raises(UserError, match="a search with another axes"):
        distill.sweep(quick, {"model.optim.lr": "log:1e-4..1e-2"}, search=2, out="found")


def test_a_search_goes_on_after_a_cell_that_cannot_be(quick: str) -> None:
    optuna = pytest.importorskip("optuna")
    over = {"model.corruption.noise": "0.1,a,b,c,d,e,f,g"}
    found = distill.sweep(quick, over, search=3, out="found")
    trials = optuna.load_study(study_name="sweep", storage="sqlite:///found/optuna.db").trials
    possible = {trial.number: trial.params["model.corruption.noise"] == "0.1" for trial in trials}
    assert {trial.number: trial.state.name == "COMPLETE" for trial in trials} == possible
    assert {f"trial{number}/seed0" for number, can in possible.items() if not can} == found.failures.keys()
    assert all("model.corruption.noise: given" in why for why in found.failures.values())
    assert len(found.failures) >= 2


def test_a_search_goes_on_after_a_file_that_does_not_exist(quick: str) -> None:
    pytest.importorskip("optuna")
    root = yaml.safe_load(Path(quick).read_text())["data"]["init_args"]["root"]
    found = distill.sweep(quick, {"data.root": f"a,b,c,{root},d,e"}, search=3, out="found")
    assert len(found.failures) >= 2
    assert all("does not exist" in why or "no such folder" in why for why in found.failures.values())
