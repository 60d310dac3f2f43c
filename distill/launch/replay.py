"""Repeats the step at which a run diverged: `python -m distill.launch.replay RUN/failed_batch.pt`."""

import sys
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from distill.errors import UserError
from distill.files import parse_yaml
from distill.launch.api import python_recipe
from distill.seeding import step_seed


@dataclass(frozen=True)
class Replayed:
    """The results of a diverged step.

    Attributes:
        step: The step, from 1.
        images: Names of its images, by batch; several batches where gradients were accumulated.
        losses: Of each batch.
        first: The first module, in the order of computation, whose output is not finite; None if all are.
        gradients: Parameters whose gradient is not finite.
    """

    step: int
    images: list[list[str]]
    losses: list[float]
    first: str | None
    gradients: list[str]


def replay(path: str | PathLike[str]) -> Replayed:
    """Repeats the step on a CPU in the precision of the weights.

    Only open files that you trust: they hold pickled objects.

    Args:
        path: `failed_batch.pt` of a run folder.

    Raises:
        UserError: There is no such file, or the recipe in it no longer works, for example because the teacher's file
            is gone.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no {fspath(path)}; give failed_batch.pt of a run that diverged")
    failed: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    parsed = python_recipe("fit", parse_yaml(failed["recipe"]) | {"run": {"dir": "unused"}}, {})
    built = parsed.build(weights_stored=True)
    built.data.setup("fit")
    task = built.task
    task.build(built.data.class_names)
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    task.on_load_checkpoint(failed["checkpoint"])
    task.load_state_dict(failed["checkpoint"]["state_dict"])
    task.train()
    task.log = task.log_dict = lambda *_, **__: None
    unsound: list[str] = []
    for name, module in task.named_modules():
        if not list(module.children()):
            module.register_forward_hook(_noting(name, unsound))
    losses = []
    for batch, index in zip(failed["batches"], failed["indices"], strict=True):
        torch.manual_seed(step_seed(failed["seed"], failed["step"] - 1, index, failed["rank"]))
        loss = task.training_step(batch, index)
        loss.backward()
        losses.append(loss.item())
    gradients = [name for name, p in task.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return Replayed(failed["step"], failed["images"], losses, next(iter(unsound), None), gradients)


def _noting(name: str, unsound: list[str]) -> Any:
    def note(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and not output.isfinite().all():
            unsound.append(name)

    return note


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m distill.launch.replay RUN/failed_batch.pt")
    try:
        found = replay(sys.argv[1])
    except UserError as error:
        sys.exit(f"distill: error: {error}")
    print(f"step {found.step}: loss {', '.join(f'{loss:g}' for loss in found.losses)}")
    print(f"images: {', '.join(name for names in found.images for name in names)}")
    print(f"first output that is not finite: {found.first or 'none'}")
    print(f"gradients that are not finite: {', '.join(found.gradients) or 'none'}")
