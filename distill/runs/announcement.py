"""Prints the size of a fit in one line, and warns of settings that have no effect in a run of its length."""

import logging
from typing import Any

import pytorch_lightning as pl

from distill.evaluation.units import counted
from distill.phases import line_console
from distill.training.optim import total_steps

logger = logging.getLogger(__name__)


def announce(trainer: pl.Trainer, data: Any) -> None:
    """Prints the sizes of data and images and the number of steps; warns of intervals longer than the run.

    Args:
        trainer: Not fitting yet; knows the data module.
        data: A `distill.data.base.ImageData`, set up for it; knows the trainer.
    """
    if not trainer.is_global_zero:
        return
    loader = data.train_dataloader()
    steps = total_steps(trainer)
    held_out = 0
    if trainer.limit_val_batches:
        validation = data.val_dataloader()
        held_out = sum(len(part.dataset) for part in (validation if isinstance(validation, list) else [validation]))
    batch = min(loader.batch_size or 1, len(loader.sampler))
    images_a_step = batch * trainer.world_size * trainer.accumulate_grad_batches
    validated = f"{counted(held_out, 'image')} to validate on" if held_out else "no validation"
    line_console().print(
        f"{counted(len(loader.dataset), 'training image')}, {validated}; "
        f"{counted(steps, 'step')} of {counted(images_a_step, 'image')}"
    )
    if said := data.shrunk():
        line_console().print(said)
    if data.sizes is not None:
        line_console().print(f"training views: {data.sizes.sentence(steps)}")
        if missed := data.sizes.unreached(steps):
            logger.warning(
                "data.sizes: the run ends after %s and never trains on views of %s px",
                counted(steps, "step"),
                ", ".join(map(str, missed)),
            )
    if held_out:
        warn_of_intervals(trainer, steps)


def warn_of_intervals(trainer: pl.Trainer, steps: int) -> None:
    """Warns of intervals that are longer than the run."""
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
