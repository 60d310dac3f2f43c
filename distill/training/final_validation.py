"""A validation at the end of every run, whatever its interval."""

from typing import Any

import pytorch_lightning as pl


class FinalValidation(pl.Callback):
    """Makes Lightning validate after the last step.

    Its intervals alone leave a run unvalidated that is shorter than `val_check_interval`, and the last steps of one
    that is no multiple of it. A trainer that is asked to stop validates first, so the last step asks it to. Must
    come after the timer of `trainer.max_time`, which asks it, too.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Asks for the validation when the run is complete."""
        if is_complete(trainer) or trainer.should_stop:
            trainer.check_val_every_n_epoch = None  # or the last epoch might not be one of those
            trainer.should_stop = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Counts the last epoch as over after its validation.

        A run that goes on from inside it would take one batch more, unless its interval asks for that validation, too
        (Lightning 2.6, `advance` of the epoch loop).
        """
        progress = checkpoint["loops"]["fit_loop"]
        batches, epochs = progress["epoch_loop.batch_progress"], progress["epoch_progress"]
        validated = batches["is_last_batch"] and batches["current"]["completed"] == batches["current"]["ready"]
        if validated and epochs["current"]["processed"] + 1 == trainer.max_epochs:
            for counts in epochs.values():
                counts["completed"] = counts["processed"] = counts["ready"]


def is_complete(trainer: pl.Trainer) -> bool:
    """Whether the batch that was just trained on is the run's last."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    epochs = trainer.max_epochs
    return epochs is not None and trainer.is_last_batch and 0 < epochs <= trainer.current_epoch + 1
