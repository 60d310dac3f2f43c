"""The final pass over the rows of a scene: its outputs, complete, in a folder of their own.

A pure function of the row files: the same rows give the same bytes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.tiling import TilePlan
from distill.scene.class_polygon_files import ClassPolygonWriter
from distill.scene.class_polygons import write_class_polygons
from distill.scene.class_raster import ClassRasterWriter
from distill.scene.coco_files import CocoWriter
from distill.scene.detections import Detection
from distill.scene.feature_writer import FeatureWriter
from distill.scene.features import PolygonSettings, make_features
from distill.scene.geojson import GeoJsonWriter
from distill.scene.geopackage import GeoPackageWriter
from distill.scene.instance_rows import read_row
from distill.scene.merge import CrossTileMerge
from distill.scene.model_facts import LAND_COVER, ModelFacts
from distill.scene.mosaic import class_blocks
from distill.scene.mosaic_file import NO_DATA
from distill.scene.options import CLASS_RASTER, COCO, GEOJSON, GEOPACKAGE, PredictOptions
from distill.scene.overlay import LONGEST, Overlay
from distill.scene.source import Scene

Counts = dict[str, int]


def output_names(name: str, formats: Sequence[str], options: PredictOptions) -> list[str]:
    """Names of the files of a scene, but for its part of predictions.json."""
    endings = {
        ".gpkg": GEOPACKAGE in formats,
        ".geojson": GEOJSON in formats,
        ".tif": CLASS_RASTER in formats,
        ".tif.aux.xml": CLASS_RASTER in formats,
        "_confidence.tif": options.confidence,
        "_overlay.jpg": options.overlay,
    }
    return [name + ending for ending, written in endings.items() if written]


@dataclass(frozen=True)
class OutputPass:
    """The final pass of one scene.

    Args:
        scene: The scene.
        name: Of its outputs.
        plan: Its tiles.
        facts: Of the model.
        options: Of the prediction.
        formats: Of the files.
        folder: Where they are written.
    """

    scene: Scene
    name: str
    plan: TilePlan
    facts: ModelFacts
    options: PredictOptions
    formats: Sequence[str]
    folder: Path

    def write(self, rows: Sequence[Path]) -> Counts:
        """Writes the outputs.

        Args:
            rows: The files of all rows, in order.

        Returns:
            Instances, or pixels, of each class by name.
        """
        size = (self.scene.height, self.scene.width)
        overlay = Overlay(self.scene.overview(LONGEST), size, self.facts.class_names) if self.options.overlay else None
        counts = (self._classes if self.facts.task == LAND_COVER else self._instances)(rows, overlay)
        if overlay is not None:
            overlay.save(self.folder / f"{self.name}_overlay.jpg")
        return {name: int(counts[label]) for label, name in enumerate(self.facts.class_names)}

    def _instances(self, rows: Sequence[Path], overlay: Overlay | None) -> Counter[int]:
        counts: Counter[int] = Counter()
        settings = PolygonSettings(self.options.simplify, self.options.min_area)
        first = 1
        with ExitStack() as stack:
            writers = [stack.enter_context(writer) for writer in self._writers()]
            for detections in self._merged(rows):
                features = make_features(detections, first, self.facts.class_names, self.scene.georeference, settings)
                for writer in writers:
                    writer.add(features)
                if overlay is not None:
                    overlay.add(Detection(one.tile, one.box, one.score, one.label, one.mask) for one in features)
                counts.update(one.label for one in features)
                first += len(features)
        return counts

    def _merged(self, rows: Sequence[Path]) -> Iterator[list[Detection]]:
        merge = CrossTileMerge(self.plan)
        for row, path in enumerate(rows):
            yield merge.add_row(row, read_row(path, self.plan.row(row)))
        yield merge.finish()

    def _writers(self) -> Iterator[FeatureWriter]:
        if COCO in self.formats:
            yield CocoWriter(self.folder / f"{self.name}.jsonl", self.scene.height, self.scene.width)
        if GEOPACKAGE in self.formats:
            yield GeoPackageWriter(self.folder / f"{self.name}.gpkg", self.scene.georeference)
        if GEOJSON in self.formats:
            yield GeoJsonWriter(self.folder / f"{self.name}.geojson", self.scene.georeference)

    def _classes(self, rows: Sequence[Path], overlay: Overlay | None) -> Counter[int]:
        counts = np.zeros(NO_DATA + 1, np.int64)
        names, place = self.facts.class_names, self.scene.georeference
        raster = self.folder / f"{self.name}.tif"
        confidence = self.folder / f"{self.name}_confidence.tif" if self.options.confidence else None
        writer = ClassRasterWriter(raster, self.scene.height, self.scene.width, names, place, confidence)
        try:
            for block in class_blocks(self.plan, rows, len(names), self.options.confidence):
                writer.write(block)
                if overlay is not None:
                    overlay.add_block(block.top, block.labels)
                counts += np.bincount(block.labels.ravel(), minlength=NO_DATA + 1)
            writer.close()
        finally:
            writer.discard()
        for format_, suffix in ((GEOPACKAGE, "gpkg"), (GEOJSON, "geojson")):
            if format_ in self.formats:  # polygons are those of the class raster, which may be all that is wanted of it
                with ClassPolygonWriter(self.folder / f"{self.name}.{suffix}", place, names) as polygons:
                    write_class_polygons(raster, polygons, self.options.simplify, self.options.min_area)
        return Counter(dict(enumerate(counts[: len(names)].tolist())))
