"""Loads the model of `distill predict`: a run folder, or an exported file.

PyTorch is imported for run folders only, so that exported files run without it.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from distill.exported.session import is_exported
from distill.launch.scene_file import model_of_file
from distill.scene.detections import Model
from distill.scene.model_facts import SceneModel
from distill.scene.options import PredictOptions

if TYPE_CHECKING:
    import torch


def scene_model(
    run: str | PathLike[str],
    options: PredictOptions,
    checkpoint: str | PathLike[str] | None = None,
    device: "torch.device | str | None" = None,
) -> SceneModel:
    """Loads a run of instances or land cover, a shared model, or a file that `distill export` wrote of one.

    Args:
        run: The run folder, the shared model (see `load`) or the file.
        options: Of the prediction.
        checkpoint: See `load`; not of a file.
        device: See `load`; a file runs on the CPU.

    Raises:
        UserError: See `load` and `open_model`; or the run is a distillation, which has no classes.
    """
    if is_exported(run):
        return model_of_file(Path(run), options, checkpoint, device)
    from distill.launch.scene_run import model_of_run  # imports PyTorch

    return model_of_run(run, options, checkpoint, device)


def network_of(
    run: str | Path,
    options: PredictOptions,
    checkpoint: str | PathLike[str] | None,
    device: "torch.device | str | None",
) -> Model:
    """What the engine calls, for a process that is told the rest."""
    return scene_model(run, options, checkpoint, device).network
