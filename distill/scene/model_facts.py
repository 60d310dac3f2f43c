"""A trained run, or an exported file, in the form that scenes are predicted with."""

from dataclasses import dataclass

from distill.scene.detections import Model
from distill.scene.options import PredictOptions
from distill.scene.tile_size import TileSize

INSTANCES, LAND_COVER = "instances", "segmentation"


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a trained run, from its folder or an exported file.

    Attributes:
        run: The run folder, or the file.
        task: "instances" or "segmentation".
        class_names: In label order.
        digest: SHA-256 of the checkpoint, or of the file.
        version: Of this project.
        size: Its tiles.
        gsd: Metres of a pixel of the training images; None if they have no coordinates.
        cap: How many instances the head finds in a tile at most; None if there is no limit.
        notes: What there is to tell about it, in lines.
        lowest_score: Score below which the head finds no instance by its construction.
    """

    run: str
    task: str
    class_names: tuple[str, ...]
    digest: str
    version: str
    size: TileSize
    gsd: float | None = None
    cap: int | None = None
    notes: tuple[str, ...] = ()
    lowest_score: float = 0.0


@dataclass(frozen=True)
class SceneModel:
    """A model that is ready to predict scenes.

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
