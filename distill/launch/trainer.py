"""The trainer of a run: the recipe's settings with checkpoints, progress and logs of this project."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.errors import UserError
from distill.runs.checkpoint_io import AtomicCheckpointIO
from distill.runs.folder import RunFolder


def build_trainer(
    settings: Mapping[str, Any], folder: RunFolder, callbacks: Sequence[pl.Callback], logger: Logger | None = None
) -> pl.Trainer:
    """Builds the trainer.

    Args:
        settings: Arguments of `pl.Trainer` from the recipe.
        folder: The run folder.
        callbacks: All callbacks, those of the recipe included, in order; Lightning moves those that write checkpoints
            to the end, and keeps their order.
        logger: Where metrics go, if anywhere.

    Raises:
        UserError: The trainer refuses its settings.
    """
    plugins = settings.get("plugins") or []
    plugins = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
    if _on_slurm() and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(SLURMEnvironment(auto_requeue=False))  # Lightning's saves inside of a handler, which may hang
    ours = {
        "callbacks": list(callbacks),
        "plugins": plugins,
        "logger": logger or False,
        "default_root_dir": str(folder),
        "enable_progress_bar": False,  # Lightning's
    }
    try:
        return pl.Trainer(**{**settings, **ours})
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"the trainer refuses its settings: {error}; correct the keys under trainer") from error


def _on_slurm() -> bool:
    """Whether srun started this process; torchrun, which may run inside a job, comes first as in Lightning."""
    return SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()


def recipe_callbacks(settings: Mapping[str, Any]) -> list[pl.Callback]:
    """Callbacks that the recipe names."""
    given = settings.get("callbacks") or []
    return list(given) if isinstance(given, list) else [given]


def training_timer(settings: Mapping[str, Any]) -> Timer:
    """The timer that the recipe names among its callbacks, else one that ends the run at `max_time`, if that is set."""
    named = [callback for callback in recipe_callbacks(settings) if isinstance(callback, Timer)]
    return named[0] if named else Timer(settings.get("max_time"))


def require_device(settings: Any) -> None:
    """Refuses to look for a GPU where there is none.

    Args:
        settings: The `trainer` group.

    Raises:
        UserError: The recipe asks for a GPU.
    """
    if settings.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator is {settings.accelerator!r}, but PyTorch {torch.__version__} sees no GPU; "
            "use --trainer.accelerator cpu, or see `distill doctor`"
        )
