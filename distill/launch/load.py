"""`distill.load`: a run folder becomes a model that is ready for use."""

from os import PathLike
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import Precision

from distill.errors import UserError, unknown_name
from distill.exported.session import is_exported
from distill.launch.predictors import InstancePredictor, Predictor, SemanticPredictor, StudentPredictor
from distill.launch.quiet import quiet
from distill.launch.shared_model import open_run
from distill.plain_student import as_student
from distill.tasks.instances import FineTuningModule
from distill.tasks.segmentation import SegmentationModule
from distill.tasks.supervised import SupervisedModule
from distill.weights import load_student

PARTS = ("model", "student")


def load(
    run: str | PathLike[str],
    *,
    part: str = "model",
    checkpoint: str | PathLike[str] | None = None,
    device: torch.device | str | None = None,
    max_detections: int | None = None,
    score_threshold: float | None = None,
    float32: bool = False,
) -> Predictor:
    """Loads the model of a run in eval mode, with its own preprocessing.

    The model is built as recipe.yaml says, without the data set, the teacher and the files of initial weights, which
    need not exist any more. The weights are those that validation and `distill test` use: the averaged ones where the
    run averages them.

    Args:
        run: A run folder; a shared model, as a folder or as "hf://owner/name" or "hf://owner/name@revision" on the
            Hugging Face Hub, of which no stored code is run (docs/sharing.md); or a student.safetensors of this
            project.
        part: "model" for the whole model, or "student" for the backbone alone. A distillation has only the student.
        checkpoint: "best", "last" or the path of a training checkpoint. By default "last", as in `distill test`; for a
            student, student.safetensors, which a finished run has written. A student that comes from a checkpoint of
            a distillation with `model.loss.standardize` emits standardised maps; student.safetensors emits the
            teacher's. A shared model has one set of weights, and takes none.
        device: Where the model computes; by default the GPU if PyTorch sees one, else the CPU.
        max_detections: Raises the limit of instances that the head finds in one image, where it has one that is lower.
        score_threshold: Lowers the score from which on the head finds instances, where its own is higher.
        float32: Whether it computes in float32 whatever `trainer.precision` of the run says.

    Returns:
        An object whose `predict(image)` returns `Instances` for instance segmentation, a `ClassMap` for semantic
        segmentation, and a list of feature maps for a student.

    Raises:
        UserError: There is no such run or checkpoint, the checkpoint does not fit the recipe, a number is out of
            range, or a shared model cannot be fetched or names classes that are not of this project.
    """
    if part not in PARTS:
        raise unknown_name("part", part, PARTS)
    if max_detections is not None and max_detections < 1:
        raise UserError(f"max_detections is {max_detections}; it must be 1 or more")
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise UserError(f"score_threshold is {score_threshold}; it must lie in [0, 1]")
    if is_exported(run):
        raise UserError(
            f"{run} is an exported file, and distill.load takes run folders; call distill.predict({str(run)!r}, "
            "sources, out=...), or distill.exported.models.open_model for arrays"
        )
    place, path = _device(device), Path(run)
    if path.is_file():
        if checkpoint is not None:
            raise UserError(f"{path} is a file of weights; leave out checkpoint, which is {str(checkpoint)!r}")
        return StudentPredictor(as_student(load_student(path)), device=place)
    stored = open_run(run)
    settings: dict[str, Any] = {"device": place, "bands": stored.data.get("bands")}
    settings["batch_size"] = stored.data.get("batch_size") or 1
    if part == "student" or not issubclass(stored.task_class, SupervisedModule):
        return StudentPredictor(stored.student(checkpoint), **settings)
    task = stored.trained(checkpoint)
    settings |= {"class_names": task.class_names, "precision": _precision(None if float32 else stored.precision, place)}
    if isinstance(task, SegmentationModule):
        return SemanticPredictor(task, stored.data.get("zoom", 1.0), **settings)
    if not isinstance(task, FineTuningModule):
        raise UserError(f"{run} is a run of {stored.task_class.__name__}, whose results are unknown; load its student")
    _widen(task.head, max_detections, score_threshold)
    return InstancePredictor(task, stored.image_size, **settings)


def _widen(head: Any, max_detections: int | None, score_threshold: float | None) -> None:
    """Lets a head find more, never less."""
    if max_detections is not None and head.max_detections is not None:
        head.max_detections = max(max_detections, head.max_detections)
    if score_threshold is not None and score_threshold < head.score_threshold:
        head.score_threshold = score_threshold


def _device(given: torch.device | str | None) -> torch.device:
    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"device is {given!r}; give cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device is {str(given)!r}, but PyTorch {torch.__version__} sees no GPU; give cpu")
    return device


def _precision(given: Any, device: torch.device) -> Precision:
    """What Lightning's trainer computes in on this device, with this `trainer.precision`."""
    gpu = device.type == "cuda"
    with quiet():
        return pl.Trainer(
            accelerator="gpu" if gpu else device.type,
            devices=[device.index or 0] if gpu else 1,
            precision=given,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).precision_plugin
