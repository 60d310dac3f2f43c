"""A run folder becomes what the engine of scenes uses."""

from dataclasses import replace
from importlib.metadata import version
from os import PathLike

import torch

from distill.errors import UserError
from distill.files import digest_of
from distill.launch.load import load
from distill.launch.predictors import InstancePredictor, SemanticPredictor
from distill.launch.shared_model import open_run
from distill.launch.tile_defaults import tile_size
from distill.scene.detections import Model
from distill.scene.model_facts import INSTANCES, LAND_COVER, ModelFacts, SceneModel
from distill.scene.options import PredictOptions
from distill.scene.tta import with_tta

_CAP = 1000  # instances of a tile: training looks at 100, of which dense scenes have more


def model_of_run(
    run: str | PathLike[str],
    options: PredictOptions,
    checkpoint: str | PathLike[str] | None = None,
    device: torch.device | str | None = None,
) -> SceneModel:
    """Loads a run of instances or land cover.

    Args:
        run: The run folder, or a shared model; see `load`.
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
    stored = open_run(run)
    summary = stored.facts
    size, notes = tile_size(stored, summary, options)
    facts = ModelFacts(
        run=stored.name,
        task=INSTANCES if isinstance(model, InstancePredictor) else LAND_COVER,
        class_names=tuple(model.class_names),
        digest=digest_of(stored.checkpoint(checkpoint or "last")),
        version=version("distill-rs"),
        size=size,
        gsd=summary.get("gsd"),
        cap=model.max_detections if isinstance(model, InstancePredictor) else None,
        notes=tuple(notes),
        lowest_score=model.lowest_score if isinstance(model, InstancePredictor) else 0.0,
    )
    network: Model = with_tta(model) if options.tta else model
    chosen = replace(options, bands=options.bands or model.bands)
    return SceneModel(network, facts, chosen, options.batch_size or model.batch_size)
