"""What a prediction needs to know of a trained run, beside the model itself."""

from dataclasses import dataclass

from distill.scene.tile_size import TileSize

INSTANCES, LAND_COVER = "instances", "segmentation"


@dataclass(frozen=True)
class ModelFacts:
    """A trained run, as its folder tells it.

    Attributes:
        run: The run folder.
        task: "instances" or "segmentation".
        class_names: In label order.
        digest: SHA-256 of the checkpoint.
        version: Of this project.
        size: Its tiles.
        gsd: Metres of a pixel of the training images; None if they have no coordinates.
        cap: How many instances the head finds in a tile at most; None if there is no limit.
        notes: What there is to tell about it, in lines.
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
