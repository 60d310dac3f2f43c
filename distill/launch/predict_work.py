"""The loop of a prediction: scene after scene, row after row, and the files on all of them at the end."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.data.rasters import BrokenImage
from distill.errors import UserError, first_line
from distill.evaluation.units import counted
from distill.launch.predict_progress import PredictProgress
from distill.launch.predict_sources import Source
from distill.scene.detections import Model
from distill.scene.job import SceneJob
from distill.scene.joined import finished_scenes, join, settings_of
from distill.scene.model_facts import ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.summary import SceneSummary


@dataclass(frozen=True)
class Share:
    """The part of a scene that one process predicts.

    Attributes:
        source: The scene.
        part: Which of `parts` equal shares of its rows.
        parts: How many processes share the scene.
    """

    source: Source
    part: int = 0
    parts: int = 1

    def of(self, rows: range) -> range:
        """The rows of this share."""
        return rows[len(rows) * self.part // self.parts : len(rows) * (self.part + 1) // self.parts]


def shares(sources: Sequence[Source], shard: tuple[int, int] | None) -> list[Share]:
    """The shares of process I of N: whole scenes in turns; with fewer scenes than processes, parts of one scene.

    Args:
        sources: All scenes, sorted.
        shard: (I, N), I from 1; None for one process.
    """
    if shard is None:
        return [Share(source) for source in sources]
    index, count = shard[0] - 1, shard[1]
    if count <= len(sources):
        return [Share(source) for source in sources[index::count]]
    scene = index % len(sources)
    return [Share(sources[scene], index // len(sources), len(range(scene, count, len(sources))))]


@dataclass(frozen=True)
class Done:
    """The progress of all processes together.

    Attributes:
        scenes: Those that are finished, sorted by name.
        pending: Names of the others.
        files: Names of the files on all scenes together; none while scenes are pending.
    """

    scenes: Sequence[SceneSummary]
    pending: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class Told:
    """Messages of one share.

    Attributes:
        broken: Why its file cannot be read; None if it can.
        settings: What of the scene's header is the same for all scenes.
    """

    broken: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class PredictWork:
    """A prediction of some scenes.

    Args:
        sources: All scenes, also those of other processes.
        out: The output folder.
        options: Of the prediction.
        facts: Of the run.
        overwrite: Whether results of other settings are replaced.
        progress: Is told how far it is.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        out: Path,
        options: PredictOptions,
        facts: ModelFacts,
        overwrite: bool,
        progress: PredictProgress,
    ) -> None:
        self._sources, self._out, self._options = sources, out, options
        self._facts, self._overwrite, self._progress = facts, overwrite, progress

    def run(self, model: Model, own: Sequence[Share], batch_size: int) -> Done:
        """Predicts this process's share, and joins all scenes if none is pending then.

        Args:
            model: Of the run.
            own: This process's share.
            batch_size: Tiles that the model sees together.

        Raises:
            UserError: Files cannot be read; the others are predicted before. Or anything of `SceneJob`.
        """
        return self.joined([self.predict(model, share, batch_size) for share in own])

    def predict(self, model: Model, share: Share, batch_size: int) -> Told:
        """Predicts a share, and finishes its scene if no other share of it is pending then.

        Args:
            model: Of the run.
            share: Of a scene.
            batch_size: Tiles that the model sees together.

        Raises:
            UserError: See `SceneJob`.
        """
        source = share.source
        with ExitStack() as stack:
            job = SceneJob(source.path, source.name, self._out, self._options, self._facts, self._overwrite)
            try:
                stack.enter_context(job)
            except BrokenImage as error:
                self._progress.say(f"passed over: {first_line(error)}")
                return Told(broken=first_line(error))
            if job.without_geojson and not job.formats and len(self._sources) == 1:
                raise UserError(
                    f"{source.path} has no CRS, and GeoJSON has longitudes and latitudes; name its CRS with --crs, or "
                    "write pixels with --format gpkg"
                )
            if job.result() is None:
                self._predict(job, model, share.of(job.rows), batch_size)
            else:
                self._progress.begin(source.name, 0)
                self._progress.say(f"{source.name} is there already, with the same settings")
            return Told(None, settings_of(job.header))

    def joined(self, told: Sequence[Told]) -> Done:
        """How far all processes are; joins the scenes if none is pending.

        Args:
            told: Of the shares of this process.

        Raises:
            UserError: Files could not be read.
        """
        if broken := sorted({one.broken for one in told if one.broken is not None}):
            more = f" ({len(broken)} files in all cannot be read)" if len(broken) > 1 else ""
            if all(one.broken is not None for one in told):
                raise UserError(f"{broken[0]}{more}; repair it, and repeat, or name other files")
            raise UserError(f"{broken[0]}{more}; all others are predicted: repair or leave out, and repeat")
        settings = next((one.settings for one in told), {})
        names = [source.name for source in self._sources]
        finished = finished_scenes(self._out, names, settings)
        scenes, pending = list(finished.values()), [name for name in names if name not in finished]
        if pending:
            return Done(scenes, pending, ())
        facts = {"run": self._facts.run, "class_names": list(self._facts.class_names), **settings}
        return Done(scenes, (), join(self._out, scenes, self._facts.class_names, facts))

    def _predict(self, job: SceneJob, model: Model, rows: range, batch_size: int) -> None:
        if not rows:  # of a scene with fewer rows than shares
            return
        with job.journal.claimed(rows):
            if job.result() is not None:  # another process has finished it meanwhile
                return
            job.begin()
            missing = [row for row in job.missing_rows() if row in rows]
            self._progress.begin(job.name, sum(len(job.plan.row(row)) for row in missing))
            for row in missing:
                job.predict_row(model, row, batch_size, self._progress.advance)
            if rest := job.missing_rows():
                self._progress.say(f"{job.name}: {counted(len(rest), 'row')} of tiles left to other shards")
                return
            with job.journal.finishing() as got:
                if got and job.result() is None:
                    job.finish()
