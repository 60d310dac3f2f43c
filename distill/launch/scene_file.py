"""An exported file becomes what the engine of scenes uses; needs no PyTorch, but for a `.pt2`."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import UserError
from distill.exported.facts import PLANES, ExportedFacts
from distill.exported.models import open_model
from distill.scene.detections import Model
from distill.scene.model_facts import INSTANCES, ModelFacts, SceneModel
from distill.scene.options import PredictOptions
from distill.scene.tile_size import TileSize
from distill.scene.tta import with_tta

if TYPE_CHECKING:
    import torch


def model_of_file(
    path: Path,
    options: PredictOptions,
    checkpoint: str | PathLike[str] | None = None,
    device: "torch.device | str | None" = None,
) -> SceneModel:
    """Opens a file of instances or land cover.

    Args:
        path: The file.
        options: Of the prediction.
        checkpoint: None.
        device: None or "cpu".

    Raises:
        UserError: See `open_model`; or an option that files do not have.
    """
    if checkpoint is not None:
        raise UserError(f"{path} holds the weights of one checkpoint; leave out checkpoint, or predict the run folder")
    if device is not None and str(device) != "cpu":
        raise UserError(f"device is {device}, and exported files run on the CPU; give cpu, or predict the run folder")
    model = open_model(path)
    facts = model.session.facts
    if facts.task == INSTANCES and options.score < facts.score_threshold:
        raise UserError(
            f"score is {options.score}, and {path} was exported with {facts.score_threshold} as its lowest; give that "
            "or more, or predict the run folder"
        )
    of_engine = ModelFacts(
        run=str(path),
        task=facts.task,
        class_names=facts.class_names,
        digest=_digest(path),
        version=facts.version,
        size=_tiles(facts, options),
        gsd=facts.gsd,
        cap=facts.max_detections,
        notes=tuple(_notes(facts, options)),
        lowest_score=facts.mask_threshold if facts.kind == PLANES else 0.0,
    )
    network: Model = with_tta(model) if options.tta else model
    return SceneModel(network, of_engine, replace(options, bands=options.bands or facts.bands), 1)


def _tiles(facts: ExportedFacts, options: PredictOptions) -> TileSize:
    given = facts.size
    if options.tile is None and options.overlap is None:
        return given
    return TileSize.chosen(given.tile, given.whole, facts.object_side, options.tile, options.overlap)


def _notes(facts: ExportedFacts, options: PredictOptions) -> Iterator[str]:
    if facts.precision != "float32":
        yield f"the file computes in {facts.precision}, so its results differ from those of the run"
    if facts.image_size is not None and (shrunk := _tiles(facts, options).shrunk(facts.image_size)):
        yield shrunk
    if options.batch_size not in (None, 1):
        yield "exported files see one tile at a time, whatever the batch size says"


def _digest(path: Path) -> str:
    """SHA-256 of a file, and of the weights beside an .xml."""
    total = hashlib.sha256()
    for part in (path, path.with_suffix(".bin")):
        if part.is_file() and (part == path or path.suffix == ".xml"):
            with part.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
