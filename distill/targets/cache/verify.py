"""Verifies a whole cache: every checksum, and the recomputed targets of some views.

Axes: B batch, C channels, h w the teacher's grid, S side of a view in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import default_collate

from distill.data.sample_key import SampleKey
from distill.data.views.base import Views
from distill.errors import UserError
from distill.phases import phase
from distill.targets.cache.entries import CHECKSUM, checksum, entry_of
from distill.targets.cache.folder import CacheFolder, CacheInfo, Shard
from distill.targets.cache.reader import StoredTargets
from distill.targets.cache.settings import ERROR
from distill.targets.rounding import decode, rounded

RECOMPUTED = 16
_TOLERANCE = 1e-2  # relative L2: another device or batch may round otherwise, another view or teacher is far off


@dataclass(frozen=True)
class Verified:
    """The result of a verification.

    Attributes:
        entries: Whose checksums are right.
        recomputed: Whose targets were made anew.
        equal: Of these, how many are equal to the bit.
        largest_error: Of these, the largest relative L2 distance.
    """

    entries: int
    recomputed: int
    equal: int
    largest_error: float


def verify(
    folder: CacheFolder,
    info: CacheInfo,
    train: Views[Any],
    validation: Views[Any],
    teach: Callable[[Tensor], dict[str, Tensor]],
    command: str,
) -> Verified:
    """Reads every entry of a complete cache, and recomputes `RECOMPUTED` of them, spread over all.

    Args:
        folder: The cache.
        info: Its header.
        train: The training images as views.
        validation: The validation images as views.
        teach: Maps views (B, 3, S, S) in [0, 1] to features (B, C, h, w) by name.
        command: Makes the cache, for errors.

    Raises:
        UserError: A file is damaged, or an entry is not what the teacher makes of its view.
    """
    shards = list(info.shards())
    total = sum(shard.count for shard in shards)
    with phase("verifying checksums", total) as advance:
        for shard in shards:
            _require_whole(folder, shard, command)
            advance(shard.count)
    for views, validates in ((train, False), (validation, True)):
        views.addition = StoredTargets(folder, info, views, validates, ERROR, command)
    step = max(1, total // RECOMPUTED)
    chosen = range(step // 2, total, step)[:RECOMPUTED]
    errors: list[float] = []
    with phase("recomputing targets", len(chosen)) as advance:
        for place in chosen:
            view, image = divmod(place, info.images)
            stored = place < info.views * info.images
            sample = train[SampleKey(image, view)] if stored else validation[place - info.views * info.images]
            errors.append(_error(info, sample, teach))
            advance(1)
    return Verified(total, len(errors), sum(error == 0 for error in errors), max(errors))


def _require_whole(folder: CacheFolder, shard: Shard, command: str) -> None:
    path = folder.path(shard)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run {command}") from error
    for number in range(shard.count):
        if checksum(entry_of(tensors, number)) != int(tensors[CHECKSUM][number]):
            raise UserError(
                f"entry {number} of {path}: the checksum differs, the file is damaged; remove it and run {command}"
            )


def _error(info: CacheInfo, sample: dict[str, Any], teach: Callable[[Tensor], dict[str, Tensor]]) -> float:
    """Largest relative L2 distance of the stored targets of a view to those that the teacher makes of it now."""
    batch = default_collate([sample])
    made = teach(batch["image"])
    worst = 0.0
    for feature in info.targets:
        stored, again = decode(batch["target"][feature]), rounded(made[feature].cpu(), info.dtype)
        error = float((stored - again).norm() / again.norm().clamp_min(torch.finfo(torch.float32).tiny))
        if not error <= _TOLERANCE:  # NaN, too
            raise UserError(
                f"the stored target of image {sample['path']!r} is {error:.2g} relative L2 away from what the teacher "
                "makes of the view now; make a cache in another folder"
            )
        worst = max(worst, error)
    return worst
