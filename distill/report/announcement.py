"""What a fit is about to do, in one line, and which of its settings have no effect in a run of its length."""

import logging

import pytorch_lightning as pl

from distill.phases import line_console
from distill.report.units import counted

logger = logging.getLogger(__name__)


def announce(trainer: pl.Trainer, data: pl.LightningDataModule) -> None:
    """Says how much data and how many steps there are; warns of intervals that are longer than the run.

    Args:
        trainer: Not fitting yet.
        data: Set up for it.
    """
    if not trainer.is_global_zero:
        return
    loader = data.train_dataloader()
    limit = trainer.limit_train_batches
    batches = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
    batches = -(-batches // trainer.world_size)
    steps = total_steps(trainer, batches)
    held_out = 0
    if trainer.limit_val_batches:
        validation = data.val_dataloader()
        held_out = sum(len(part.dataset) for part in (validation if isinstance(validation, list) else [validation]))
    images_a_step = (loader.batch_size or 1) * trainer.world_size * trainer.accumulate_grad_batches
    validated = f"{counted(held_out, 'image')} to validate on" if held_out else "no validation"
    line_console().print(
        f"{counted(len(loader.dataset), 'training image')}, {validated}; "
        f"{counted(steps, 'step')} of {counted(images_a_step, 'image')}"
    )
    if held_out:
        warn_of_intervals(trainer, steps)


def total_steps(trainer: pl.Trainer, batches: int) -> int:
    """Optimizer steps of the run, given the batches that a process takes in an epoch.

    Lightning's own count builds the loaders of the fit, which belong to the fit.
    """
    steps = trainer.max_steps if trainer.max_steps >= 0 else None
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        by_epochs = trainer.max_epochs * -(-batches // trainer.accumulate_grad_batches)
        steps = by_epochs if steps is None else min(steps, by_epochs)
    return 0 if steps is None else steps


def warn_of_intervals(trainer: pl.Trainer, steps: int) -> None:
    """Warns where the run ends before an interval of it does."""
    batches = steps * trainer.accumulate_grad_batches
    every = trainer.val_check_interval
    if trainer.check_val_every_n_epoch is None and isinstance(every, int) and every > batches:
        logger.warning(
            "trainer.val_check_interval is %d, but the run has %s: it is validated once, at its end",
            every,
            counted(batches, "batch", "batches"),
        )
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if every > steps:
        logger.warning(
            "trainer.log_every_n_steps is %d, but the run has %s: metrics.csv will hold its last step alone",
            every,
            counted(steps, "step"),
        )
