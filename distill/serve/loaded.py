"""Runs that are served: loaded once, and predicted with the code of `distill predict`."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from distill.data.strangers import read_as_sent
from distill.errors import UserError
from distill.launch.scene_model import scene_model
from distill.scene.job import SceneJob
from distill.scene.joined import RESULTS, join
from distill.scene.model_facts import INSTANCES
from distill.scene.options import CLASS_RASTER, COCO, GEOJSON, PredictOptions
from distill.scene.overlay import LONGEST
from distill.scene.source import SourceOptions, open_scene
from distill.serve.shown import write_classes, write_outlines
from distill.serve.work import Picture, Result

_SMALLEST = 900  # pixels of the longer side of a picture that a browser would otherwise enlarge pixel by pixel


class LoadedRun:
    """A run of instances or land cover, ready to predict.

    Attributes:
        name: Of the run on the page.
        task: "instances" or "segmentation".
        class_names: In label order.
        score: The least score of an instance.
        bands: Of images, as the run's recipe says.

    Args:
        run: The run folder.
        name: See above.
        checkpoint: See `distill.load`.
        device: See `distill.load`.
        score: See above.

    Raises:
        UserError: There is no such run, or it is a distillation, which finds nothing by itself.
    """

    def __init__(
        self,
        run: str | PathLike[str],
        name: str,
        checkpoint: str | None = None,
        device: torch.device | str | None = None,
        score: float = 0.1,
    ) -> None:
        self._model = scene_model(run, PredictOptions(score=score, overlay=False), checkpoint, device)
        self._facts, self._options = self._model.facts, self._model.options
        self.name, self.task, self.class_names = name, self._facts.task, list(self._facts.class_names)
        self.score, self.bands = score, self._options.bands

    def predict(self, image: Path, out: Path, advance: Callable[[int, int], None]) -> Result:
        """See `distill.serve.work.ServedRun`."""
        instances = self.task == INSTANCES
        options = replace(self._options, formats=self._formats(image) if instances else (CLASS_RASTER,))
        with read_as_sent(image), SceneJob(image, image.stem, out, options, self._facts) as job:
            job.begin()
            done, total = 0, len(job.plan)

            def count(tiles: int, _: int) -> None:
                nonlocal done
                done += tiles
                advance(done, total)

            for row in job.missing_rows():
                job.predict_row(self._model.network, row, self._model.batch_size, count)
            summary = job.finish()
        names = join(out, [summary], self.class_names, {})
        files = [*summary.outputs, *(name for name in names if name == RESULTS)]
        shown = out / "shown"
        if instances:
            write_outlines(json.loads((out / RESULTS).read_text(encoding="utf-8")), shown)
        else:
            write_classes(out / f"{image.stem}.tif", shown)
        counts: dict[str, Any] = dict(summary.counts or summary.shares)
        notes = [f"{self.name}: {note}" for note in self._facts.notes]
        notes += [f"{image.stem} {note}" for note in summary.notes]
        return Result(shown, {name: out / name for name in files}, counts, notes, summary.seconds)

    def _formats(self, image: Path) -> Sequence[str]:
        with read_as_sent(image), open_scene(image, SourceOptions(self.bands)) as scene:
            mapped = scene.georeference is not None and scene.georeference.wkt is not None
        return (COCO, GEOJSON) if mapped else (COCO,)


def load_runs(runs: Iterable[str | PathLike[str]], **settings: Any) -> list[LoadedRun]:
    """Loads runs under the names of their folders, or under their paths where two names are the same.

    Raises:
        UserError: See `LoadedRun`; or the runs see other bands, so that one picture cannot stand for both.
    """
    paths = [Path(run) for run in runs]
    names = [path.resolve().name for path in paths]
    loaded = [
        LoadedRun(path, name if names.count(name) == 1 else str(path), **settings)
        for path, name in zip(paths, names, strict=True)
    ]
    for run in loaded[1:]:
        if run.bands != loaded[0].bands:
            raise UserError(
                f"{loaded[0].name} sees bands {loaded[0].bands} and {run.name} {run.bands} (data.bands of their "
                "recipes), so one picture cannot show what both see; serve them one by one"
            )
    return loaded


def picture_of(image: Path, folder: Path, bands: Sequence[int] | None) -> Picture:
    """Writes an image file as a JPEG that a browser shows, with the stretch that the model sees.

    Raises:
        UserError: It cannot be read.
    """
    with read_as_sent(image), open_scene(image, SourceOptions(bands)) as scene:
        pixels = Image.fromarray(np.ascontiguousarray(np.moveaxis(scene.overview(LONGEST), 0, 2)))
        times = max(1, _SMALLEST // max(pixels.size))
        pixels = pixels.resize((pixels.width * times, pixels.height * times), Image.Resampling.BICUBIC)
        file = folder / "picture.jpg"
        pixels.save(file, "JPEG", quality=92)
        return Picture(file, scene.height, scene.width)
