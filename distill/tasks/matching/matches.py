"""All matches of a distillation: built from a recipe, calibrated together, stored in checkpoints.

Axes: B batch, C channels, H W the teacher's grid.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from distill.contracts import FeatureInfo, TeacherBase
from distill.errors import UserError
from distill.phases import phase
from distill.targets.live import LiveTargets
from distill.tasks.matching.baseline import TargetStatistics
from distill.tasks.matching.match import Match
from distill.tasks.matching.settings import TargetSettings


def further_matches(
    settings: Sequence[TargetSettings], teachers: Sequence[TeacherBase | None], student: FeatureInfo, dtype: str
) -> list[Match]:
    """The matches of `model.targets`.

    Args:
        settings: What the recipe says of each.
        teachers: The teacher of each.
        student: Channels and strides of the student's maps.
        dtype: To which precision targets are rounded.

    Raises:
        UserError: A teacher or a map that is not there, or two targets of one name.
    """
    channels, strides = list(student.channels()), list(student.reduction())
    found: dict[str, Match] = {}
    for index, (own, teacher) in enumerate(zip(settings, teachers, strict=True)):
        key = f"model.targets[{index}]"
        if teacher is None:
            raise UserError(f"{key} takes its feature from model.teacher, which is null; give it a teacher of its own")
        if not -len(channels) <= own.tap < len(channels):
            raise UserError(
                f"{key}.tap is {own.tap}, but the student has {len(channels)} maps, of {channels} channels and strides "
                f"{strides}; the first is 0, the last -1"
            )
        if own.label in found:
            raise UserError(f"model.targets has two targets called {own.label!r}; give each a name of its own")
        source = LiveTargets(teacher, own.feature, strides[own.tap], own.image_size, f"{key}.feature", dtype)
        found[own.label] = Match(source, channels, own.loss, own.adapter, own.tap, own.weight, own.label)
    return list(found.values())


def calibrate(matches: Sequence[Match], batches: Iterable[Sequence[Tensor]], images: int) -> None:
    """Takes the statistics of all targets in one pass.

    Args:
        matches: As many as each batch has maps.
        batches: Raw maps (B, C_i, H_i, W_i) of each target.
        images: Images of which statistics are taken.
    """
    seen: list[list[Tensor]] = [[] for _ in matches]
    count = 0
    with phase(f"calibrating on {images} training images", images) as advance:
        for maps in batches:
            for collected, own in zip(seen, maps, strict=True):
                collected.append(own.float().cpu())
            advance(min(len(maps[0]), images - count))
            count += len(maps[0])
            if count >= images:
                break
    for match in matches:
        match.calibrate(seen.pop(0), images)  # which frees the maps of one target after the other


def stored(matches: Sequence[Match]) -> dict[str, Any]:
    """The statistics as a checkpoint stores them; those of the main target apart, for older checkpoints."""
    main, *further = ({k: v.cpu() for k, v in vars(match.known).items()} for match in matches)
    names = [match.name for match in matches[1:]]
    return {"target_statistics": main} | (
        {"further_statistics": dict(zip(names, further, strict=True))} if names else {}
    )


def restore(matches: Sequence[Match], checkpoint: Mapping[str, Any]) -> None:
    """Takes the statistics from a checkpoint.

    Raises:
        UserError: It is of no distillation, or of one with other targets.
    """
    if "target_statistics" not in checkpoint:
        raise UserError("the checkpoint is not one of a distillation run; pass the run's own checkpoints/last.ckpt")
    further = checkpoint.get("further_statistics", {})
    names = [match.name for match in matches[1:]]
    if list(further) != names:
        raise UserError(
            f"the checkpoint was trained with model.targets {list(further)}, but the recipe has {names}; use the "
            "recipe it was trained with"
        )
    for match, own in zip(matches, (checkpoint["target_statistics"], *further.values()), strict=True):
        match.statistics = TargetStatistics(**own)
