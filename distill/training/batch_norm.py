"""Running statistics of batch norms, estimated again on clean images.

Training leaves them with those of corrupted views, and of other weights than averaged ones.
"""

from collections.abc import Iterable, Iterator

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

_IMAGES = 256  # from which statistics are estimated


class CleanStatistics:
    """Gives a student statistics of clean training views at the end of its training.

    Attributes:
        training: Those of training, by name in the task's state dict, with which a resumed run goes on; empty before
            the first estimate.
    """

    def __init__(self) -> None:
        self.training: dict[str, Tensor] = {}
        self._step = -1  # at which they were estimated

    def estimate(self, task: pl.LightningModule, student: nn.Module, normalize: nn.Module) -> None:
        """Estimates the running statistics, once a step.

        Args:
            task: Is attached to a trainer with a data module, whose training batches have an "image".
            student: The task's attribute of this name.
            normalize: Makes of images what the student takes.
        """
        norms = running_statistics(student)
        if not norms or self._step == task.trainer.global_step:
            return
        task.print(f"batch norms: estimating statistics on clean training views, {_IMAGES} at most")
        self.training = {f"student.{name}": buffer.clone() for name, buffer in norms.items()}
        loader = task.trainer.datamodule.full_size_dataloader()  # type: ignore[attr-defined]
        views = (normalize(batch["image"].to(task.device)) for batch in loader)
        seen = estimate_again(student, views, _IMAGES)
        for buffer in norms.values():
            buffer.copy_(task.trainer.strategy.broadcast(buffer))
        self._step = task.trainer.global_step
        task.print(f"batch norms: statistics estimated again on {seen} clean training views")


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    """The buffers of a module's batch norms by their names in its state dict; empty where there are none."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    buffers = {id(buffer) for part in norms for buffer in part.buffers(recurse=False)}
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in buffers}


def estimate_again(module: nn.Module, batches: Iterable[Tensor], limit: int) -> int:
    """Replaces the statistics by those of the first images.

    Args:
        module: Takes the batches.
        batches: Images (B, C, H, W), normalised.
        limit: Images after which no further batch is taken.

    Returns:
        How many images there were.
    """
    seen = 0

    def first() -> Iterator[Tensor]:
        nonlocal seen
        for batch in batches:
            yield batch
            seen += len(batch)
            if seen >= limit:
                return

    update_bn(first(), module)
    return seen
