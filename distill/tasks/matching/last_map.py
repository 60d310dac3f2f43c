"""The scale of the student's last map: where it starts, and how it is exported.

Axes: B batch, C channels, H W the teacher's grid.
"""

import copy

import torch
from torch import Tensor, nn

from distill.contracts import StudentBase
from distill.tasks.losses.features import l1
from distill.tasks.matching.match import Match


def exported_student(student: StudentBase, match: Match) -> tuple[nn.Module, dict[str, object]]:
    """The student as it is exported, and a description of its last map.

    A student that was trained on standardised maps is returned as a copy that emits the teacher's scale.

    Args:
        student: As it was trained.
        match: That of its last map.

    Returns:
        The student, and metadata: "last_map" in words. Where the student has no weights to fold the teacher's mean and
        standard deviation into, they are "output_mean" and "output_std", C numbers each. No last norm can undo a
        rotation, "output_rotation", C lists of C numbers.
    """
    kind = match.targets.name
    if match.projects:
        return student, {"last_map": f"features from which an adapter, now dropped, made {kind}"}
    if not match.standardizes or match.statistics is None:
        return student, {"last_map": kind}
    mean, std, rotation = match.statistics.mean, match.statistics.std, match.statistics.rotation
    numbers: dict[str, object] = {"output_mean": mean.tolist(), "output_std": std.tolist()}
    if rotation.numel():
        said = f"{kind}, rotated by PHI-S: {kind} is output_rotationᵀ (map * output_std + output_mean)"
        digits = [[round(number, 7) for number in row] for row in rotation.tolist()]
        return student, {"last_map": said, **numbers, "output_rotation": digits}
    folded = copy.deepcopy(student)
    if folded.fold_output(std, mean):
        return folded, {"last_map": kind}
    said = f"{kind}, standardised: {kind} is map * output_std + output_mean, by channel"
    return student, {"last_map": said, **numbers}


@torch.no_grad()
def has_the_teachers_scale(maps: list[Tensor], raw: Tensor, match: Match) -> bool:
    """Whether a loaded student emits the teacher's scale, as exported ones do, and not standardised maps.

    Args:
        maps: The student's (B, C_i, h_i, w_i) of clean images.
        raw: The teacher's (B, C, H, W) of the same.
        match: That of the last map.
    """
    target = match.target(raw).float()
    found = match.estimate(maps, (target.shape[-2], target.shape[-1])).float()
    standardized = match.known.z_scores(found)
    return bool(l1(standardized, target).mean() < l1(found, target).mean())
