"""Estimates after the first steps of a run: time, memory, and for a long run, a smaller one."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytorch_lightning as pl
import torch

from distill.evaluation.units import counted, duration

_LONG = 12 * 3600  # seconds
_LONG_ON_CPU = 3600
_LONG_STEP_ON_CPU = 10


@dataclass(frozen=True)
class Estimate:
    """Estimates for the whole run from its first steps; times in seconds."""

    step: float
    images: int  # a step
    steps: int  # of the whole run
    left: float
    validations: int  # that are still to come
    device: torch.device
    side: int | None = None  # of the views in pixels, where it changes during the run
    alike: float | None = None  # where it does: how many steps like these have as many pixels as the whole run

    @property
    def total(self) -> float:
        """The time of all steps."""
        return self.step * (self.steps if self.alike is None else self.alike)

    @property
    def is_long(self) -> bool:
        """Whether the run is long enough to suggest a smaller one."""
        on_cpu = self.device.type == "cpu"
        return self.total > _LONG or (on_cpu and (self.total > _LONG_ON_CPU or self.step > _LONG_STEP_ON_CPU))


def first_estimate(estimate: Estimate, suggest: Callable[[], str]) -> str:
    """The line that is printed after the first steps.

    Args:
        estimate: What was measured.
        suggest: Names a smaller run; asked where the run is long.
    """
    beside = f" and {counted(estimate.validations, 'validation')}" if estimate.validations else ""
    side, grown = "", ""
    if estimate.side is not None:
        side, grown = f" of {estimate.side} px", " if time goes with pixels, estimated again at the next size"
    line = (
        f"estimate: {estimate.step:.2f} s a step of {counted(estimate.images, 'image')}{side}; "
        f"{estimate.steps:,} steps take about {duration(estimate.total)}{beside}{grown}; "
        f"{memory(estimate.device)}"
    )
    return f"{line}\n{suggest()}" if estimate.is_long else line


def memory(device: torch.device) -> str:
    """Peak memory of this process, and of the GPU it trains on."""
    if sys.platform == "win32":
        used = "peak memory not known on Windows"
    else:
        import resource  # of Unix

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = f"peak memory {_gib(peak if sys.platform == 'darwin' else 1024 * peak)}"
    if device.type != "cuda":
        return used
    total = torch.cuda.get_device_properties(device).total_memory
    return f"{used}, on the GPU {_gib(torch.cuda.max_memory_reserved(device))} of {_gib(total)}"


def validations_left(trainer: pl.Trainer, step: int, total: int) -> int:
    """How many validations are still to come after optimizer step `step` of `total`, the one at the end included."""
    if step >= total or not trainer.enable_validation:
        return 0
    done, batches = _batches(trainer, step), _batches(trainer, total)
    at_end = _validations(trainer, batches) == _validations(trainer, batches - 1)  # else the interval ends there, too
    return _validations(trainer, batches) - _validations(trainer, done) + at_end


def _batches(trainer: pl.Trainer, steps: int) -> int:
    """Batches that so many optimizer steps take; the last step of an epoch may take fewer than the others."""
    length = int(trainer.num_training_batches)
    epochs, rest = divmod(steps, math.ceil(length / trainer.accumulate_grad_batches))
    return epochs * length + rest * trainer.accumulate_grad_batches


def _validations(trainer: pl.Trainer, batches: int) -> int:
    """How many intervals end within the first `batches` of a run."""
    length, every = int(trainer.num_training_batches), trainer.val_check_batch
    every = every if isinstance(every, int) else length  # once an epoch
    if trainer.check_val_every_n_epoch is None:  # the interval counts on over epochs
        return batches // every
    epochs, rest = divmod(batches, length)
    validated = (epochs + 1) % trainer.check_val_every_n_epoch == 0
    return epochs // trainer.check_val_every_n_epoch * (length // every) + (rest // every if validated else 0)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
