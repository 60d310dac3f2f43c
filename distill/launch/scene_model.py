"""A trained run as the engine of scenes uses it: what it calls, and what it knows of it."""

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path

import torch

from distill.errors import UserError
from distill.launch.load import load
from distill.launch.predictors import InstancePredictor, SemanticPredictor
from distill.launch.stored_run import StoredRun
from distill.launch.tile_defaults import tile_size
from distill.scene.job import Model
from distill.scene.model_facts import INSTANCES, LAND_COVER, ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.tta import with_tta

_CAP = 1000  # instances of a tile: training looks at 100, of which dense scenes have more


@dataclass(frozen=True)
class SceneModel:
    """A run that is ready to predict scenes.

    Attributes:
        network: What the engine calls.
        facts: Of the run.
        options: Those of the user, with the bands of the run where the user names none.
        batch_size: Tiles that the model sees together.
    """

    network: Model
    facts: ModelFacts
    options: PredictOptions
    batch_size: int


def scene_model(
    run: str | PathLike[str],
    options: PredictOptions,
    checkpoint: str | PathLike[str] | None = None,
    device: torch.device | str | None = None,
) -> SceneModel:
    """Loads a run of instances or land cover.

    Args:
        run: The run folder.
        options: Of the prediction.
        checkpoint: See `load`.
        device: See `load`.

    Raises:
        UserError: See `load`; or the run is a distillation, which has no classes.
    """
    model = load(run, checkpoint=checkpoint, device=device, max_detections=_CAP, score_threshold=options.score)
    if not isinstance(model, InstancePredictor | SemanticPredictor):
        raise UserError(
            f"{run} is a distillation: it has feature maps and no classes; give a fine-tuned run, or call "
            "distill.load(run).predict(image)"
        )
    stored = StoredRun(Path(run))
    summary = stored.folder.read_summary()[0] if stored.folder.summary.is_file() else {}
    size, notes = tile_size(stored, summary, options)
    with stored.checkpoint(checkpoint or "last").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = ModelFacts(
        run=str(stored.folder),
        task=INSTANCES if isinstance(model, InstancePredictor) else LAND_COVER,
        class_names=tuple(model.class_names),
        digest=digest,
        version=version("distill-rs"),
        size=size,
        gsd=summary.get("gsd"),
        cap=model.max_detections if isinstance(model, InstancePredictor) else None,
        notes=tuple(notes),
    )
    network: Model = with_tta(model) if options.tta else model
    chosen = replace(options, bands=options.bands or model.bands)
    return SceneModel(network, facts, chosen, options.batch_size or model.batch_size)


def network_of(
    run: Path, options: PredictOptions, checkpoint: str | PathLike[str] | None, device: torch.device | str | None
) -> Model:
    """What the engine calls, for a process that is told the rest."""
    return scene_model(run, options, checkpoint, device).network
