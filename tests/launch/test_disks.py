"""A run whose disk fills up, turns read-only or vanishes ends in one line, and goes on when the disk is back."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml

from distill.cli import main
from distill.runs.folder import RunFolder
from tests.launch.resuming import assert_same_weights

DISK_MB = 48
FAULTS = {
    "full": ("cannot be written", ["dd", "if=/dev/zero", "of={disk}/filler", "bs=64K", "status=none"]),
    "read-only": ("cannot be written (Read-only file system)", ["mount", "-o", "remount,ro,bind", "{shown}"]),
    "gone": ("is gone", ["umount", "-l", "{shown}"]),
}


def shell(command: list[str], disk: Path, shown: Path, check: bool = True) -> None:
    words = [word.format(disk=disk, shown=shown) for word in command]
    subprocess.run(words, check=check, capture_output=True)


class Fault(pl.Callback):
    """Something happens to the disk during step `step`."""

    def __init__(self, name: str, disk: str, shown: str, step: int) -> None:
        self.name, self.disk, self.shown, self.step = name, Path(disk), Path(shown), step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            shell(FAULTS[self.name][1], self.disk, self.shown, check=self.name != "full")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A small disk, and a mount point that shows it."""
    disk, shown = tmp_path / "disk", tmp_path / "shown"
    disk.mkdir()
    shown.mkdir()
    try:
        shell(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", "{disk}"], disk, shown)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"only root may mount a small disk: {error}")
    shell(["mount", "--bind", "{disk}", "{shown}"], disk, shown)
    yield disk, shown
    shell(["umount", "-l", "{shown}"], disk, shown, check=False)
    shell(["umount", "-l", "{disk}"], disk, shown)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.mark.xdist_group("disks")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails(
    fault: str,
    distill_recipe: Path,
    disk: tuple[Path, Path],
    whole: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distill.launch.fit.run_facts", lambda *_: {})
    content = yaml.safe_load(distill_recipe.read_text())
    student = {"name": "test_resnet.r160_in1k", "out_indices": [3]}
    content["model"]["init_args"]["student"] = {"class_path": "students.TimmStudent", "init_args": student}
    content["model"]["init_args"]["corruption"] = {"level": "image"}
    content["trainer"] |= {"max_steps": 5, "limit_val_batches": 0, "log_every_n_steps": 100}
    content["run"] |= {"checkpoint_every": 1, "loggers": [], "pictures_every": 0}
    distill_recipe.write_text(yaml.safe_dump(content))
    fit = ["fit", str(distill_recipe)]
    if not whole.exists():
        assert main([*fit, f"--run.dir={whole}"]) == 0
    real, shown = disk
    run = RunFolder(shown / "run")
    arguments = {"name": fault, "disk": str(real), "shown": str(shown), "step": 2}
    callback = {"class_path": "tests.launch.test_disks.Fault", "init_args": arguments}
    capsys.readouterr()
    assert main([*fit, f"--run.dir={run}", f"--trainer.callbacks={yaml.safe_dump([callback])}"]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert FAULTS[fault][0] in said
    assert str(run) in said
    if fault == "gone":
        assert not run.path.exists(), "something was written where the disk had been"
        shell(["mount", "--bind", "{disk}", "{shown}"], real, shown)
    elif fault == "read-only":
        shell(["mount", "-o", "remount,rw,bind", "{shown}"], real, shown)
    else:
        (real / "filler").unlink()
    assert not list(run.checkpoints.glob(".*")), "half a checkpoint is left"
    assert main([*fit, f"--run.dir={run}", "--ckpt_path=last"]) == 0
    assert_same_weights(whole, run.path)
