"""The facts in an exported file: all that is needed to run it, as one JSON object."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from distill.errors import UserError
from distill.scene.tile_size import TileSize

FORMAT_VERSION = 2  # 1 has no frames
METADATA_KEY = "distill"  # of ONNX metadata_props and of OpenVINO rt_info
EXTRA_FILE = "distill.json"  # in a .pt2

REGIONS, FRAMES, PLANES, LOGITS, FEATURES = "regions", "frames", "planes", "logits", "features"
# Names of the outputs, in order; those of features are map_0, map_1 and so on.
FLOAT32, INT8 = "float32", "int8"  # precisions
OUTPUTS = {
    REGIONS: ("boxes", "scores", "labels", "count", "masks"),
    FRAMES: ("boxes", "scores", "labels", "count", "masks"),
    PLANES: ("probabilities",),
    LOGITS: ("logits",),
    FEATURES: (),
}


@dataclass(frozen=True)
class ExportedFacts:
    """Facts of an exported model.

    A file has the inputs `image`, float32 RGB (1, 3, H, W) in [0, 1] with H and W multiples of `stride`, and, for
    instances, `size`, int64 (2,): height and width of the part of it that is not padding. Its outputs depend on `kind`:

    | kind | outputs |
    |---|---|
    | regions | boxes (K, 4), scores (K,), labels (K,), count (): how many are valid, masks (K, m, m): probabilities |
    | frames | as of regions, but masks (K, h, w): logits of the whole view, in cells of `mask_stride` |
    | planes | probabilities (1, C, H, W), whose connected regions are the instances |
    | logits | logits (1, C, H, W), or with `zoom` on the coarser grid of the decoder |
    | features | one for each map of a student |

    Attributes:
        kind: See above.
        task: "instances", "segmentation" or "features".
        class_names: In label order; none of features.
        stride: Of H and W, in pixels.
        least: Of H and W, in pixels; whoever runs the file pads smaller images. None, as in older files: two strides.
        mean: Of the normalisation inside the file, for its documentation.
        std: As `mean`.
        size: Tiles of the run.
        run: The folder that the file comes from.
        student: Class path of the student.
        head: Class path of the head; empty for features.
        digest: SHA-256 of the checkpoint.
        version: Of this project, when the file was written.
        image_size: Of instances: side of the square that an image is fitted into; None for others.
        zoom: Of land cover: pixels of the network for each pixel of an image.
        window: Of land cover: side of the windows that images are predicted by, in pixels of the network; None: whole.
        window_stride: Pixels from one window to the next.
        score_threshold: Of instances: the lowest score inside the file.
        max_detections: Of instances: most that the file finds in one image; None if there is no limit.
        mask_threshold: Of instances: probability from which on a pixel belongs to one.
        mask_stride: Of frames: pixels of the view in a cell of a mask, along each side.
        min_area: Of planes: pixels of the smallest instance.
        object_side: Of instances: side of a large object of the training, in pixels of an image; None: not known.
        bands: Of files that are shown as red, green and blue; None: see `distill.data.images.read_image`.
        gsd: Metres of a pixel of the training images; None if they have no coordinates.
        precision: `FLOAT32` or `INT8`.
        format_version: Of this description.
    """

    kind: str
    task: str
    class_names: tuple[str, ...]
    stride: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: TileSize
    run: str
    student: str
    head: str
    digest: str
    version: str
    least: int | None = None
    image_size: int | None = None
    zoom: float = 1.0
    window: int | None = None
    window_stride: int | None = None
    score_threshold: float = 0.0
    max_detections: int | None = None
    mask_threshold: float = 0.5
    mask_stride: int = 1
    min_area: int = 1
    object_side: float | None = None
    bands: tuple[int, ...] | None = None
    gsd: float | None = None
    precision: str = FLOAT32
    format_version: int = FORMAT_VERSION

    @property
    def smallest(self) -> int:
        """The least height and width of an input, in pixels."""
        return self.least or 2 * self.stride

    def to_json(self) -> str:
        """The facts as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None, path: object) -> "ExportedFacts":
        """Reads the facts of a file.

        Args:
            text: What it holds under `METADATA_KEY`; None if there is nothing.
            path: The file, for errors.

        Raises:
            UserError: There is nothing, it is damaged, or a newer version has written it.
        """
        if text is None:
            raise UserError(f"{path} is no file of `distill export`: it does not tell what its inputs and outputs mean")
        try:
            content: dict[str, Any] = json.loads(text)
            newer = content["format_version"] > FORMAT_VERSION
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"the description inside {path} is damaged; export it again") from error
        if newer:
            raise UserError(
                f"{path} was written by version {content.get('version')} in a newer format "
                f"({content['format_version']}; this version knows {FORMAT_VERSION}); update distill-rs, or export it "
                "again"
            )
        try:
            facts = cls(**{key: _from_json(key, value) for key, value in content.items()})
        except TypeError as error:
            raise UserError(f"the description inside {path} is damaged ({error}); export it again") from error
        if facts.kind not in OUTPUTS:
            raise UserError(f"the description inside {path} is damaged: its kind is {facts.kind!r}; export it again")
        return facts


def _from_json(key: str, value: Any) -> Any:
    """A value as the dataclass has it."""
    if key == "size":
        return TileSize(**value)
    return tuple(value) if isinstance(value, list) else value
