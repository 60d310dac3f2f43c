"""One scene on its way to its outputs: rows of tiles, in any order and by any process, then a final pass over them."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

from distill.data.masks import fits_rle
from distill.data.tiling import TilePlan
from distill.errors import UserError, first_line
from distill.evaluation.units import counted
from distill.files import move_into_place, read_json
from distill.scene.detections import ClassModel, InstanceModel, Model
from distill.scene.journal import Journal
from distill.scene.model_facts import LAND_COVER, ModelFacts
from distill.scene.options import COCO, GEOJSON, PredictOptions
from distill.scene.outputs import OutputPass, output_names
from distill.scene.row_results import ClassRow, InstanceRow, RowResults
from distill.scene.source import Scene, SourceOptions, open_scene
from distill.scene.space import require_space
from distill.scene.strips import SeenTile, read_tiles
from distill.scene.summary import SceneSummary

Advance = Callable[[int, int], None]

_OTHER_GSD = 1.5  # times larger or smaller than in training
# Options that the header has in another form, and the batch size, which changes the last digits at most.
_ELSEWHERE = ("tile", "overlap", "stretch", "formats", "batch_size")


class SceneJob:
    """The prediction of one scene. A context manager, which opens the scene.

    Several processes may predict different rows of a scene at once, or one after another, and any of them finishes
    it: all do the same with the same arguments.

    Attributes:
        scene: The opened scene.
        plan: Its tiles.
        header: What shapes the result.
        rows: Numbers of the rows of tiles.
        formats: Of its files.
        without_geojson: Whether GeoJSON was asked for and cannot be written.

    Args:
        path: The raster or image.
        name: Of its outputs.
        out: The output folder.
        options: Of the prediction.
        facts: Of the run.
        overwrite: Whether results of other settings, and files of the same names, are replaced.

    Raises:
        UserError: The scene cannot be read, or an option does not suit it.
    """

    scene: Scene
    plan: TilePlan
    header: dict[str, Any]
    rows: range
    formats: tuple[str, ...]
    without_geojson: bool

    def __init__(
        self,
        path: Path,
        name: str,
        out: Path,
        options: PredictOptions,
        facts: ModelFacts,
        overwrite: bool = False,
    ) -> None:
        self.path, self.name, self.out = path, name, out
        self.options, self.facts, self.overwrite = options, facts, overwrite
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            options = self.options
            limits = None if options.stretch is None else (options.stretch[0], options.stretch[1])
            source = SourceOptions(options.bands, limits, options.gsd, options.crs)
            self.scene = stack.enter_context(open_scene(self.path, source))
            self.plan = self.facts.size.plan(self.scene.height, self.scene.width)
            self.rows = range(len(self.plan.tops))
            self.formats = self._formats()
            self.labels = options.labels(self.facts.class_names)
            self.header = self._header()
            self.journal = Journal(self.out, self.name, self.header, len(self.rows))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def result(self) -> SceneSummary | None:
        """The summary if the scene is finished.

        Raises:
            UserError: It was finished with other settings, and `overwrite` is not set.
        """
        content = self.journal.result(self.outputs, self.overwrite)
        return None if content is None else SceneSummary.from_json(content)

    @property
    def outputs(self) -> list[Path]:
        """The files of the finished scene."""
        return [self.out / name for name in output_names(self.name, self.formats, self.options)]

    @property
    def part(self) -> Path:
        """Its part of predictions.json."""
        return self.journal.finished.with_suffix(".jsonl")

    def begin(self) -> None:
        """Prepares the folder of the rows; what an interrupted process left there is kept.

        Raises:
            UserError: The disk has not enough room, or files of other settings are in the way.
        """
        self.journal.begin(self.outputs, self.overwrite)
        require_space(self.out, self.plan, self.missing_rows(), self.facts, self.options.confidence)

    def missing_rows(self) -> list[int]:
        """The rows that are still to be predicted."""
        return self.journal.missing()

    def predict_row(self, model: Model, row: int, batch_size: int = 1, advance: Advance | None = None) -> None:
        """Predicts the tiles of a row, and writes what is found.

        Args:
            model: Of the run.
            row: Its number.
            batch_size: Tiles that the model sees together.
            advance: Is told how many tiles are done, and how many objects were found in them, after each batch.

        Raises:
            UserError: A tile cannot be read or predicted; the message names it.
        """
        started = time.perf_counter()
        tiles = empty = 0
        with self._results(model, row) as results:
            for batch in self._batches(row, batch_size):
                seen = [(one, one.pixels) for one in batch if one.pixels is not None]
                with self._named(row, batch):
                    found = iter(results.predict([pixels for _, pixels in seen]) if seen else ())
                objects = sum(results.add(one, None if one.pixels is None else next(found)) for one in batch)
                tiles, empty = tiles + len(batch), empty + len(batch) - len(seen)
                if advance is not None:
                    advance(len(batch), objects)
        facts = {"tiles": tiles, "empty_tiles": empty, "full_tiles": results.full_tiles}
        self.journal.complete(row, {**facts, "seconds": round(time.perf_counter() - started, 3)})

    def finish(self) -> SceneSummary:
        """Writes the outputs from the rows, which are all done, and gives them their names.

        Raises:
            UserError: A file cannot be written, or the disk is full.
        """
        started = time.perf_counter()
        facts = [read_json(self.journal.facts(row)) for row in self.rows]
        total = {key: sum(one[key] for one in facts) for key in ("tiles", "empty_tiles", "full_tiles", "seconds")}
        fresh = self.journal.folder / "outputs"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        outputs = OutputPass(self.scene, self.name, self.plan, self.facts, self.options, self.formats, fresh)
        counts = outputs.write([self.journal.data(row) for row in self.rows])
        for path in self.outputs:
            move_into_place(fresh / path.name, path)
        if COCO in self.formats:
            move_into_place(fresh / self.part.name, self.part)
        else:  # one of an earlier prediction would be joined with the results of this one
            self.part.unlink(missing_ok=True)
        of_pixels = self.facts.task == LAND_COVER
        pixels, place = sum(counts.values()), self.scene.georeference
        summary = SceneSummary(
            name=self.name,
            source=str(self.path),
            height=self.scene.height,
            width=self.scene.width,
            transform=None if place is None else place.transform,
            crs=None if place is None else place.wkt,
            tiles=total["tiles"],
            empty_tiles=total["empty_tiles"],
            full_tiles=total["full_tiles"],
            counts={} if of_pixels else counts,
            shares={name: count / pixels for name, count in counts.items() if pixels and of_pixels},
            data_pixels=pixels if of_pixels else 0,
            stretch=self.scene.stretch,
            outputs=tuple(path.name for path in self.outputs),
            notes=tuple(self._notes(total["full_tiles"])),
            seconds=round(total["seconds"] + time.perf_counter() - started, 3),
        )
        self.journal.finish(summary.as_json())
        return summary

    def _formats(self) -> tuple[str, ...]:
        """The formats of its files: without GeoJSON, which has longitudes and latitudes, where it has no CRS.

        Raises:
            UserError: The scene is too large for COCO.
        """
        place, size = self.scene.georeference, (self.scene.height, self.scene.width)
        wanted = self.options.formats_of(self.facts.task, place is not None)
        self.without_geojson = GEOJSON in wanted and (place is None or place.wkt is None)
        if COCO in wanted and not fits_rle(*size):
            raise UserError(
                f"{self.path} has {size[1]}x{size[0]} pixels, and COCO's run lengths hold 2^32 of them; give --format "
                "gpkg"
            )
        return tuple(name for name in wanted if not (self.without_geojson and name == GEOJSON))

    def _header(self) -> dict[str, Any]:
        stat = self.path.stat()
        options = {key: value for key, value in asdict(self.options).items() if key not in _ELSEWHERE}
        header = {
            "checkpoint": self.facts.digest,
            "source": {"path": str(self.path.resolve()), "bytes": stat.st_size, "modified": stat.st_mtime_ns},
            "plan": asdict(self.plan),
            **options,
            "stretch": self.scene.stretch,
            "formats": self.formats,
            "version": self.facts.version,
        }
        plain: dict[str, Any] = json.loads(json.dumps(header))
        return plain

    def _results(self, model: Model, row: int) -> RowResults:
        path = self.journal.data(row)
        if self.facts.task == LAND_COVER:
            return ClassRow(cast(ClassModel, model), self.plan, row, path, self.options.confidence)
        return InstanceRow(cast(InstanceModel, model), path, self.labels, self.options.score, self.facts.cap)

    def _batches(self, row: int, size: int) -> Iterator[list[SeenTile]]:
        """The tiles of a row, with `size` of those that hold data at once."""
        batch: list[SeenTile] = []
        tiles = read_tiles(self.scene, self.plan.row(row))
        while True:
            with self._named(row, []):
                seen = next(tiles, None)
            if seen is None:
                break
            batch.append(seen)
            if sum(one.pixels is not None for one in batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    @contextmanager
    def _named(self, row: int, batch: Sequence[SeenTile]) -> Iterator[None]:
        """Whatever fails inside becomes one line that names the tiles.

        Raises:
            UserError: It failed.
        """
        try:
            yield
        except (UserError, OSError, RuntimeError, MemoryError) as error:
            tiles = [one.tile for one in batch] or self.plan.row(row)
            first, last = tiles[0], tiles[-1]
            raise UserError(
                f"{self.path}: rows {first.top} to {first.top + first.height}, columns {first.left} to "
                f"{last.left + last.width} failed: {first_line(error)}; what is done is kept, and the same command "
                "goes on there"
            ) from error

    def _notes(self, full_tiles: int) -> Iterator[str]:
        yield from self.scene.notes
        if self.without_geojson:
            yield "has no CRS, so no GeoJSON of it is written; --crs names one, and --format gpkg writes pixels"
        place = self.scene.georeference
        if place is not None and self.facts.gsd is not None and place.wkt is not None:
            gsd = place.pixel_size(self.scene.width / 2, self.scene.height / 2)
            if max(gsd, self.facts.gsd) / min(gsd, self.facts.gsd) > _OTHER_GSD:
                yield (
                    f"has pixels of {gsd:.3g} m, and training had {self.facts.gsd:.3g} m: objects look "
                    f"{'smaller' if gsd > self.facts.gsd else 'larger'} than the model knows them; --gsd "
                    f"{self.facts.gsd:.3g} resamples"
                )
        if full_tiles:
            yield (
                f"has {counted(full_tiles, 'tile')} with {self.facts.cap} instances, the most that the head finds at "
                "once, so some may be missing; give smaller tiles with --tile"
            )
