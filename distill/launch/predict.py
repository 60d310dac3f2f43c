"""`distill.predict`: a trained run and scenes of any size become files of masks, polygons and classes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import Stopped, UserError, unknown_name
from distill.evaluation.units import counted
from distill.launch.hub import HubModel
from distill.launch.predict_progress import predict_progress
from distill.launch.predict_ray import RayWork, predict_with_ray
from distill.launch.predict_sources import find_sources
from distill.launch.predict_work import PredictWork, shares
from distill.launch.scene_model import network_of, scene_model
from distill.scene.joined import refuse_foreign_files
from distill.scene.model_facts import INSTANCES, ModelFacts
from distill.scene.options import PredictOptions
from distill.scene.summary import SceneSummary

if TYPE_CHECKING:
    import torch

Paths = str | PathLike[str] | Iterable[str | PathLike[str]]


@dataclass(frozen=True)
class Prediction:
    """The results of a prediction.

    Attributes:
        out: The output folder.
        scenes: Those that are finished, sorted by name.
        pending: Names of those that other shards have not finished.
        files: Names of the files on all scenes together; none while scenes are pending.
        class_names: Of the run.
        notes: What there is to tell of the run.
    """

    out: Path
    scenes: Sequence[SceneSummary]
    pending: Sequence[str]
    files: Sequence[str]
    class_names: Sequence[str]
    notes: Sequence[str]

    @property
    def seconds_per_tile(self) -> float | None:
        """Of all work, mean over the tiles with data; None if there are none."""
        tiles = sum(scene.tiles - scene.empty_tiles for scene in self.scenes)
        return sum(scene.seconds for scene in self.scenes) / tiles if tiles else None


def predict(
    run: str | PathLike[str],
    sources: Paths,
    *,
    out: str | PathLike[str],
    checkpoint: str | PathLike[str] | None = None,
    device: "torch.device | str | None" = None,
    shard: tuple[int, int] | None = None,
    ray: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Prediction:
    """Predicts images and rasters of any size, as `distill predict` does, and writes what is found.

    A prediction that was interrupted goes on where it was; scenes that are finished are passed over.

    Args:
        run: A run folder of instances or land cover, a shared model of them (see `load`), or a file that
            `distill export` wrote of one.
        sources: Files, folders, or patterns such as "scenes/*.tif"; one or many.
        out: The output folder.
        checkpoint: See `load`; not of a file.
        device: See `load`; files run on the CPU.
        shard: (I, N): this is process I, from 1, of N that share the work.
        ray: "local", or the address of a Ray cluster, whose actors do the work; see `distill.launch.predict_ray`.
        workers: How many actors; by default one for each GPU, or for each four CPU cores.
        overwrite: Whether results of other settings, and files of the same names, are replaced.
        **options: See `distill.scene.options.PredictOptions`.

    Returns:
        What was written.

    Raises:
        UserError: There is no such run or source, an option does not suit them, the folder holds results of other
            settings, or a tile cannot be predicted. What was done until then is kept.
        Stopped: The user stopped it; the same call goes on.

    Examples:
        >>> found = distill.predict("runs/mine", "scenes/*.tif", out="predicted", score=0.5)
        >>> found.scenes[0].counts
    """
    chosen, folder = _options(options), Path(out)
    if shard is not None and not (shard[1] >= 1 and 1 <= shard[0] <= shard[1]):
        raise UserError(f"shard is {shard[0]}/{shard[1]}; give I/N with I from 1 to N")
    if ray is not None and shard is not None:
        raise UserError("ray and shard are two ways to share the work; give one of them")
    if workers is not None and (ray is None or workers < 1):
        raise UserError(f"workers is {workers}; it must be 1 or more, and needs ray")
    every = find_sources(sources, folder)
    model = scene_model(run, chosen, checkpoint, device)
    chosen, facts = model.options, model.facts
    if not overwrite:
        refuse_foreign_files(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if ray is not None:
            place = str(run) if HubModel.of(run) else Path(run).absolute()
            network = partial(network_of, place, chosen, checkpoint, device)
            spread = RayWork(network, every, folder.absolute(), chosen, facts, overwrite, model.batch_size)
            done = predict_with_ray(spread, ray, workers)
        else:
            with predict_progress(len(every)) as progress:
                work = PredictWork(every, folder, chosen, facts, overwrite, progress)
                done = work.run(model.network, shares(every, shard), model.batch_size)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what is done is kept in {folder}, and the same command goes on there") from None
    except BaseException:
        with suppress(OSError):  # one that is not empty, of which the others are parents
            for path in made:
                path.rmdir()
        raise
    notes = (*facts.notes, *_nothing_found(done.scenes, facts, chosen))
    return Prediction(folder, done.scenes, done.pending, done.files, facts.class_names, notes)


def _nothing_found(scenes: Sequence[SceneSummary], facts: ModelFacts, options: PredictOptions) -> Iterator[str]:
    """A note where a run of instances found none in any scene: what to try."""
    if facts.task != INSTANCES or not scenes or any(sum(scene.counts.values()) for scene in scenes):
        return
    found = f"no object was found in {counted(len(scenes), 'scene')}"
    if options.score <= facts.lowest_score:
        yield (
            f"{found}: this head finds none with a score below {facts.lowest_score:g}, so a lower score shows no more; "
            "the run may need more training steps"
        )
    elif options.score > 0:
        yield f"{found} with a score of {options.score:g} or more; lower --score, or train the run for more steps"
    else:
        yield f"{found} with any score; the run may need more training steps"


def _options(given: Mapping[str, Any]) -> PredictOptions:
    names = [field.name for field in fields(PredictOptions)]
    for name in given:
        if name not in names:
            raise unknown_name("option", name, names)
    return PredictOptions(**given)
