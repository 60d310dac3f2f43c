"""The run folder: recipe.yaml, environment.json, metrics.csv, checkpoints/, student.safetensors, summary.json, card.md.

It can be read, compared and reported without W&B and without a network.
"""

import json
import math
import platform
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from rich.console import Console

from distill.weights import write_weights
from distill.errors import UserError
from distill.files import write_json
from distill.report.card import write_card

PACKAGES = (
    "distill-rs",
    "torch",
    "torchvision",
    "timm",
    "pytorch-lightning",
    "mmdet",
    "mmengine",
    "mmcv-lite",
    "numpy",
)


# What `distill validate` and `distill test` write.
SCORES = [
    f"{stage}{kind}"
    for stage in ("validate", "test")
    for kind in (
        ".json",
        "_facts.json",
        "_predictions.json",
        "_classes.csv",
        "_precision_recall.png",
        "_confusion.png",
        "_predictions.png",
    )
]


@dataclass
class RunSettings:
    """Where a run writes, and what it belongs to.

    Args:
        dir: The run folder; by default runs/ and the recipe's name.
        overwrite: Start over in a folder that already holds a run.
        experiment: Name that groups runs for comparison; by default the recipe's name.
        checkpoint_every: Optimizer steps between two writes of checkpoints/last.ckpt.
        seeds: A run for each of these seeds, in folders seed0, seed1, ... inside the run folder, then mean and spread
            of their scores. `seed_everything` has no say then.
    """

    dir: str | None = None
    overwrite: bool = False
    experiment: str | None = None
    checkpoint_every: int = 200
    seeds: list[int] | None = None


def environment() -> dict[str, Any]:
    """Versions and hardware that a run's numbers depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "versions": versions,
    }


def cpu_name() -> str:
    """The processor's marketing name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def holds_run(folder: Path) -> bool:
    """Whether there are trained weights in a folder."""
    checkpoints = (folder / "checkpoints").glob("*.ckpt")  # hidden ones are of a process that was killed while it wrote
    return (folder / "student.safetensors").exists() or any(path.name[0] != "." for path in checkpoints)


def require_fresh(folder: Path, overwrite: bool, resuming: bool) -> None:
    """Refuses to mix two runs.

    Raises:
        UserError: The folder holds a run and neither resuming nor overwriting was asked for.
    """
    if holds_run(folder) and not overwrite and not resuming:
        raise UserError(
            f"{folder} already holds a run; resume it with --ckpt_path last, start over with --run.overwrite true, "
            "or choose another folder with --run.dir"
        )


def require_writable(folder: Path) -> None:
    """Makes the run folder.

    Raises:
        UserError: It cannot be made, or not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"run.dir {folder} cannot be written ({error.strerror}); name another with --run.dir"
        ) from error


def clear_scores(folder: Path) -> None:
    """Removes scores, which are those of other weights once training goes on."""
    for name in SCORES:
        (folder / name).unlink(missing_ok=True)


class RunFolder(pl.Callback):
    """Writes what a finished fit leaves: the exported student, the summary and the card.

    Args:
        folder: The run folder.
        name: Name of the run, for the card.
        facts: Components and costs, see `distill.runs.metadata`.
        opening: Opens the folder, unless the first step has, see `distill.runs.first_step`.
    """

    def __init__(
        self, folder: Path, name: str, facts: Mapping[str, Any], opening: Callable[[pl.Trainer], None]
    ) -> None:
        self.folder = folder
        self.name = name
        self.facts = dict(facts)
        self.opening = opening
        self._metrics: dict[str, float] = {}
        self._trained = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the final training state. Runs before EMA, which then puts the averaged weights in place."""
        trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt")
        self._trained = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the last metrics, which a run that is cut off after its last step still has to report."""
        checkpoint["metrics"] = self._metrics | _metrics(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores them."""
        self._metrics = checkpoint.get("metrics", {})

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exports the student and writes the card; averaged weights are in place by now."""
        self.opening(trainer)
        if not self._trained:  # resumed after its last step: training did not end here
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):
                    callback.on_train_end(trainer, pl_module)
            pl_module.on_train_end()
        if not trainer.is_global_zero:
            return
        task: Any = pl_module
        student, said = task.exported_student()
        metadata: dict[str, object] = {
            "class": f"students.{type(student).__name__}" if ours(student) else type(student).__module__,
            "init_args": getattr(student, "init_args", {}),
            "run": self.name,
            **said,
            **{key: str(self.facts[key]) for key in ("teacher", "teacher_digest") if key in self.facts},
        }
        write_weights(student, self.folder / "student.safetensors", metadata)
        metrics = self._metrics | _metrics(trainer)
        facts = self.facts | {key: said[key] for key in ("last_map",) if key in said}
        write_json(self.folder / "summary.json", facts | {"steps": trainer.global_step} | metrics)
        write_card(self.folder, loading_lines(self.folder, ours(student)))


def ours(student: object) -> bool:
    """Whether `load_student` can rebuild it: it comes from this project's package."""
    return type(student).__module__.split(".")[0] == "students"


def loading_lines(folder: Path, rebuildable: bool) -> str:
    """Three lines of Python that load the run's student."""
    if not rebuildable:
        return (
            "from distill.weights import read_state_dict\n"
            "student = ...  # your own class, built as in recipe.yaml\n"
            f'student.load_state_dict(read_state_dict("{folder}/student.safetensors"))'
        )
    return (
        "from distill import load_student\n"
        f'student = load_student("{folder}/student.safetensors")\n'
        "maps = student(images)  # images: (B, 3, H, W), normalised with student.mean and student.std"
    )


def say_goodbye(folder: Path, kind: str, wait: float, skipped: Sequence[str], student: object, image_size: int) -> None:
    """Tells what a fit wrote, which broken images it skipped, and what to type next.

    Args:
        folder: The run folder.
        kind: "distil" or "fine-tune".
        wait: Share of the training time that was spent waiting for data.
        skipped: Names of the broken images.
        student: The run's student.
        image_size: Side of its views, in pixels.
    """
    console = Console(soft_wrap=True, highlight=False)
    written = [entry.name for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    console.print(f"\nWrote {folder}/: {', '.join(written)}")
    console.print(f"Waiting for data took {wait:.0%} of the training time.")
    if skipped:
        console.print(f"Skipped {len(skipped)} broken images: {', '.join(skipped[:10])}{' ...' * (len(skipped) > 10)}")
    console.print(f"Next:\n  {next_command(folder, kind, student, image_size)}", markup=False)
    console.print("In Python:")
    console.print("\n".join(f"  {line}" for line in loading_lines(folder, ours(student)).splitlines()), markup=False)


def next_command(folder: Path, kind: str, student: object, image_size: int) -> str:
    """What to type after a fit: score it, or fine-tune the student that was distilled.

    Args:
        folder: The run folder.
        kind: "distil" or "fine-tune".
        student: The run's student.
        image_size: Side of its views, in pixels, which are a size that it takes.
    """
    if kind == "fine-tune":
        return f"distill test {shlex.quote(str(folder))}"
    recipe = "nwpu_mask_rcnn" if torch.cuda.is_available() else "nwpu_mask_rcnn_cpu"
    weights = shlex.quote(str(folder / "student.safetensors"))
    if not ours(student):  # whose arguments the file does not hold
        weights = f"{type(student).__module__}.{type(student).__name__} --model.student.checkpoint {weights}"
    data = f"--data.root YOUR_DATA --data.image_size {image_size}"
    return f"distill fit recipes/finetune/{recipe}.yaml {data} --model.student {weights}"


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items() if "/" in key}
