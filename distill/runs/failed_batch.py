"""Stores the batch at which training diverged in the run folder."""

import shlex
from collections import deque
from typing import Any

import pytorch_lightning as pl
import torch

from distill.data.loader import ResumableLoader, ResumableSampler
from distill.errors import UserError
from distill.files import write_atomically
from distill.runs.folder import RunFolder
from distill.seeding import run_seed
from distill.training.gradient_check import Diverged


class FailedBatch(pl.Callback):
    """Stores the batch of a step whose gradients are not finite, and the state to repeat the step.

    On an accelerator such a step is noticed later (see `FiniteGradients`). No batch is held until then: a batch is a
    function of its epoch and number, so it is made again. The weights are those at which the step was noticed; on a CPU
    they are those of the step.

    Args:
        folder: The run folder.
        recipe: The resolved recipe as YAML.
    """

    def __init__(self, folder: RunFolder, recipe: str) -> None:
        self.folder = folder
        self.recipe = recipe
        self._taken: deque[tuple[int, tuple[int, int], int]] = deque()  # step, position of its batch, its `batch_idx`

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Remembers where the batch is from."""
        loader, step = trainer.train_dataloader, trainer.global_step + 1
        if isinstance(loader, ResumableLoader) and isinstance(loader.sampler, ResumableSampler) and loader.position:
            self._taken.append((step, loader.position, index))
        unseen = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        while self._taken and self._taken[0][0] < step - unseen:
            self._taken.popleft()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes the file, and says where it is."""
        if not isinstance(exception, Diverged):
            return
        taken = [(position, index) for step, position, index in self._taken if step == exception.step]
        if not taken:
            return
        path = self.folder.failed_batch(trainer.global_rank)
        try:
            content = self._content(trainer, pl_module, exception.step, taken)
            write_atomically(path, lambda temporary: torch.save(content, temporary))
        except UserError as error:
            exception.args = (f"{exception}. Its batch is not stored: {error}",)
            return
        said = f"its batch is in {path}; python -m distill.launch.replay {shlex.quote(str(path))} takes the step again"
        exception.args = (f"{exception}; {said}",)

    def _content(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int, taken: list[tuple[tuple[int, int], int]]
    ) -> dict[str, Any]:
        loader: Any = trainer.train_dataloader
        checkpoint: dict[str, Any] = {"state_dict": pl_module.state_dict(), "global_step": trainer.global_step}
        pl_module.on_save_checkpoint(checkpoint)
        names = [[loader.dataset.name(key.index) for key in loader.keys(*position)] for position, _ in taken]
        return {
            "step": step,
            "seed": run_seed(),
            "rank": trainer.global_rank,
            "images": names,
            "positions": [position for position, _ in taken],
            "indices": [index for _, index in taken],
            "batches": [loader.batch(*position) for position, _ in taken],
            "recipe": self.recipe,
            "recipe_path": str(self.folder.recipe),
            "checkpoint": checkpoint,
        }
