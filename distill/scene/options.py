"""The options of `distill predict` that shape its results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill.errors import UserError, unknown_name

COCO, GEOPACKAGE, GEOJSON, CLASS_RASTER = "coco", "gpkg", "geojson", "tif"
FORMATS = {"instances": (COCO, GEOPACKAGE, GEOJSON), "segmentation": (CLASS_RASTER, GEOPACKAGE, GEOJSON)}
ALL_FORMATS = (COCO, GEOPACKAGE, GEOJSON, CLASS_RASTER)
_LISTS = ("formats", "bands", "stretch", "classes")


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction, checked. Lists become tuples.

    Args:
        formats: Of the files: "coco", "gpkg" and "geojson" of instances; "tif", "gpkg" and "geojson" of land cover. By
            default coco, and gpkg where the scene has coordinates; tif of land cover.
        overlap: Least overlap of tiles in pixels; by default from the sizes of the objects of the training.
        tile: Side of the tiles in pixels; by default that of the training images, and an image that is no larger than
            one of those is predicted whole.
        score: Instances with a lower score are left out.
        bands: Numbers, from 1, of the bands that are shown as red, green and blue; by default those of the recipe, else
            those that the file calls so, else the first three.
        stretch: The values that become black and white; by default the 1st and 99th percentile of the scene.
        gsd: Metres of a pixel that the scene is resampled to while it is read.
        crs: The coordinate reference system of scenes that do not say theirs.
        simplify: How far a simplified polygon may leave the edges of the pixels, in metres, or in pixels where there
            are no coordinates; 0 keeps the edges. By default 0.75 pixels.
        min_area: Objects below it are left out, in square metres, or in pixels where there are no coordinates; smaller
            polygons of land cover take the class around them.
        classes: Names of the classes of the instances that are kept; by default all.
        batch_size: Tiles that the model sees together; by default the batch size of the run.
        tta: Whether each tile is seen in eight orientations, whose results are joined.
        confidence: Whether a raster with the probabilities of the classes is written beside the class raster.
        overlay: Whether a picture of each scene with its results is written.

    Raises:
        UserError: A value out of its range.
    """

    formats: Sequence[str] | None = None
    overlap: int | None = None
    tile: int | None = None
    score: float = 0.3
    bands: Sequence[int] | None = None
    stretch: Sequence[float] | None = None
    gsd: float | None = None
    crs: str | None = None
    simplify: float | None = None
    min_area: float = 0.0
    classes: Sequence[str] | None = None
    batch_size: int | None = None
    tta: bool = False
    confidence: bool = False
    overlay: bool = True

    def __post_init__(self) -> None:
        for name in _LISTS:
            if (given := self.__dict__[name]) is not None:
                object.__setattr__(self, name, (given,) if isinstance(given, str | int | float) else tuple(given))
        self._check_tiles()
        self._check_pixels()
        for name in self.formats or ():
            if name not in ALL_FORMATS:
                raise unknown_name("format", name, ALL_FORMATS)
        if not 0 <= self.score <= 1:
            raise UserError(f"score is {self.score}; it must lie between 0 and 1")
        for name, least in (("simplify", self.simplify), ("min_area", self.min_area)):
            if least is not None and not 0 <= least < math.inf:
                raise UserError(f"{name} is {least}; it must be 0 or more")

    def formats_of(self, task: str, georeferenced: bool) -> tuple[str, ...]:
        """The formats of the files of a scene.

        Args:
            task: "instances" or "segmentation".
            georeferenced: Whether the scene has coordinates.

        Raises:
            UserError: An option that the task does not know.
        """
        for name in self.formats or ():
            if name not in FORMATS[task]:
                raise UserError(f"format {name} is not one of a run of {task}; give {', '.join(FORMATS[task])}")
        if self.confidence and task != "segmentation":
            raise UserError("confidence is a raster beside that of the classes of land cover; instances have scores")
        if self.classes is not None and task == "segmentation":
            raise UserError("classes chooses instances, and a class map has all classes of the model; leave it out")
        if self.formats is not None:
            return tuple(name for name in FORMATS[task] if name in self.formats)
        if task == "segmentation":
            return (CLASS_RASTER,)
        return (COCO, GEOPACKAGE) if georeferenced else (COCO,)

    def labels(self, class_names: Sequence[str]) -> tuple[int, ...]:
        """The labels that are kept, in order.

        Raises:
            UserError: A class that the model does not know.
        """
        for name in self.classes or ():
            if name not in class_names:
                raise unknown_name("class", name, class_names)
        return tuple(i for i, name in enumerate(class_names) if self.classes is None or name in self.classes)

    def _check_tiles(self) -> None:
        for name, number in (("tile", self.tile), ("batch_size", self.batch_size)):
            if number is not None and number < 1:
                raise UserError(f"{name} is {number}; it must be 1 or more")
        if self.tile is not None and self.tile < 16:
            raise UserError(f"tile is {self.tile}; it must be 16 pixels or more")
        if self.overlap is not None and self.overlap < 0:
            raise UserError(f"overlap is {self.overlap}; it must be 0 or more pixels")
        if self.tile is not None and self.overlap is not None and self.overlap >= self.tile:
            raise UserError(f"overlap is {self.overlap}; it must be smaller than the tile, which is {self.tile}")

    def _check_pixels(self) -> None:
        if self.bands is not None and (not 1 <= len(self.bands) <= 3 or min(self.bands) < 1):
            raise UserError(f"bands is {list(self.bands)}; give one to three numbers from 1")
        if self.stretch is not None and (len(self.stretch) != 2 or not self.stretch[0] < self.stretch[1]):
            raise UserError(f"stretch is {list(self.stretch)}; give a lower and a higher value of the file")
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise UserError(f"gsd is {self.gsd}; it must be above 0 metres")
