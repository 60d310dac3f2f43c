"""With `run.overwrite` the old run stays whole until the new one is there, whenever and however a process ends."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from distill.cli import main
from distill.runs import replacement
from distill.runs.folder import RunFolder
from distill.tasks.matching.baseline import TargetStatistics


class Cut(pl.Callback):
    """Ends the first step, or the second, with an error."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fit(distill_recipe: Path) -> list[str]:
    return ["fit", str(distill_recipe), "--trainer.max_steps=2", "--trainer.limit_val_batches=1"]


def cut(step: int) -> list[str]:
    return ["--trainer.callbacks+=tests.runs.test_replacement.Cut", f"--trainer.callbacks.step={step}"]


def test_the_old_run_goes_with_the_first_step_of_the_new_one(
    fit: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(fit) == 0
    assert main(["validate", str(run)]) == 0
    old = contents(run)
    anew = [*fit, "--run.overwrite=true", "--model.optim.lr=0.001"]
    with pytest.raises(ConnectionAbortedError):
        main([*anew, *cut(0)])
    assert contents(run) == old

    interrupt = lambda *_, **__: signal.raise_signal(signal.SIGINT)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(TargetStatistics, "of", interrupt)
        assert main(anew) == 130
    assert "stopped before the first step" in capsys.readouterr().err
    assert contents(run) == old
    with pytest.raises(ConnectionAbortedError):  # resumed, scores stay as long
        main([*fit, "--trainer.max_steps=3", "--ckpt_path=last", *cut(2)])
    assert contents(run) == old

    with pytest.raises(ConnectionAbortedError):
        main([*anew, *cut(1)])
    assert not {
        "student.safetensors",
        "summary.json",
        "card.md",
        *(path.name for path in RunFolder(run).written_by_scoring()),
    } & {path.name for path in run.iterdir()}
    assert "0.001" in (run / "recipe.yaml").read_text()
    assert main([*anew, "--run.overwrite=false", "--ckpt_path=last"]) == 0
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def killed_within(calls: int, action: Callable[[], None]) -> bool:
    """Runs `action` in a process that is killed before its `calls`-th change of the file system."""
    child = os.fork()
    if child == 0:
        left = calls

        def counted(change: Any) -> Any:
            def changed(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return change(*arguments, **options)

            return changed

        for name in ("rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        action()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("killed_again", [False, True])
def test_a_killed_process_leaves_one_of_the_two_runs(tmp_path: Path, killed_again: bool) -> None:
    names = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "recipe.yaml", "summary.json", "test.json", "mine.txt")
    calls, outcomes, killed = 0, [], True
    while killed:
        folder = tmp_path / str(calls)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("old")
        replacement.staged(RunFolder(folder)).parent.mkdir()
        replacement.staged(RunFolder(folder)).write_text("new")

        def begin(folder: Path = folder) -> None:
            replacement.replace(RunFolder(folder), lambda: [(folder / "recipe.yaml").write_text("new")][0])

        killed = killed_within(calls, begin)
        if killed_again:
            killed_within(2, lambda folder=folder: replacement.recover(RunFolder(folder)))  # type: ignore[misc]
        replacement.recover(RunFolder(folder))
        replacement.discard_staged(RunFolder(folder))
        found = {name: content.decode() for name, content in contents(folder).items()}
        assert found.pop("mine.txt") == "old"
        assert found in (
            dict.fromkeys(names[:-1], "old"),
            {"checkpoints/last.ckpt": "new", "recipe.yaml": "new"},
        )
        outcomes.append(found["recipe.yaml"])
        calls += 1
    assert outcomes == sorted(outcomes, reverse=True), "first the old run, then the new one"
    assert outcomes.count("old") > 5
    assert outcomes.count("new") > 1
