"""Writes the shards of a cache; any number of processes share the work, and each may be killed at any time.

A shard is written beside its place, synced and renamed: it is there whole or not at all. Whoever works on one holds a
lock that the operating system ends with the process, so that no killed process blocks the others. Which entries a shard
has, and in which batches the teacher saw them, is the same for every number of processes.

Axes: B batch, n entries, C channels, h w the teacher's grid, S side of a view in pixels.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from distill.data.loader import OneLineErrorLoader
from distill.data.sample_key import SampleKey
from distill.data.views.base import Views
from distill.errors import UserError
from distill.files import write_atomically
from distill.locks import locked
from distill.phases import Advance, line_console, phase
from distill.targets.cache.entries import tensors_of, view_digest
from distill.targets.cache.folder import VALIDATION, CacheFolder, CacheInfo, Shard
from distill.targets.cache.key import first_difference
from distill.targets.rounding import Encoded, encode

ROOM = 1.05  # times what is still to be written must be free

Teach = Callable[[Tensor], dict[str, Tensor]]


class CacheWriter:
    """Writes the missing shards of a cache.

    Args:
        folder: Where.
        info: What its entries are.
        train: The training images as views.
        validation: The validation images as views; None if there are none.
        teach: Maps views (B, 3, S, S) in [0, 1] to features (B, C, h, w) by name.
        num_workers: Processes that make views.

    Raises:
        UserError: The folder holds a cache of other targets.
    """

    def __init__(
        self,
        folder: CacheFolder,
        info: CacheInfo,
        train: Views[Any],
        validation: Views[Any] | None,
        teach: Teach,
        num_workers: int = 0,
    ) -> None:
        self.folder = folder
        self.info = _agreed(folder, info)
        self._teach = teach
        self._workers = num_workers
        self._views = {VALIDATION: validation} if validation is not None else {}
        self._train = train
        for views in (train, *self._views.values()):
            views.addition = _with_digest
        self._orders: dict[int, list[int]] = {}

    def write(self) -> CacheInfo:
        """Writes every shard that is missing and that no other process works on, then waits for the others.

        Returns:
            The complete cache.

        Raises:
            UserError: The disk is full, or an image cannot be used; what is written so far stays.
        """
        missing = self.folder.missing(self.info)
        total = sum(shard.count for shard in self.info.shards())
        with phase("caching targets", total) as advance:
            advance(total - sum(shard.count for _, shard in missing))
            for wait in (False, True):  # first what is free, then what others were at and may have left
                for place, shard in self.folder.missing(self.info):
                    self._take(place, shard, wait, advance)
        return self._finish()

    def _take(self, place: int, shard: Shard, wait: bool, advance: Advance) -> None:
        with locked(self.folder.locks, 1 + place, 1, wait) as got:
            if not got:
                return
            if self.folder.path(shard).is_file():  # another process was faster
                advance(shard.count)
                return
            start = time.perf_counter()
            self._write(shard, advance)
            self._estimate(shard, time.perf_counter() - start)

    def _write(self, shard: Shard, advance: Advance) -> None:
        path = self.folder.path(shard)
        for leftover in self.folder.root.glob(f".{path.name}.*"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        require_space(self.folder.root, shard.count * self.info.entry_bytes)
        views = self._views[shard.view] if shard.view == VALIDATION else self._train
        parts: list[dict[str, Encoded]] = []
        digests: list[Tensor] = []
        broken: list[str] = []
        loader = OneLineErrorLoader(
            views, self.info.batch_size, sampler=self._keys(shard, views), num_workers=self._workers
        )
        for batch in loader:
            maps = self._teach(batch["image"])
            parts.append({name: encode(maps[name].cpu(), self.info.dtype) for name in self.info.targets})
            digests.append(batch["view_digest"])
            read, asked = batch["index"].tolist(), batch["asked"].tolist()
            broken += [views.name(index) for index, other in zip(asked, read, strict=True) if index != other]
            advance(len(digests[-1]))
        # As bytes: safetensors' own files begin under a name that `leftover` does not find, and stay after a kill.
        content = save(tensors_of(_joined(parts), torch.cat(digests)), {"broken": json.dumps(broken)})
        try:
            write_atomically(path, lambda temporary: temporary.write_bytes(content))
        except UserError as error:
            raise UserError(f"{error}; the same command then goes on where it stopped") from error

    def _keys(self, shard: Shard, views: Views[Any]) -> Any:
        """What the views of a shard are indexed with, in the order of names."""
        order = self._orders.setdefault(id(views), name_order(views))
        indices = order[shard.first : shard.first + shard.count]
        return indices if shard.view == VALIDATION else [SampleKey(index, int(shard.view[1:])) for index in indices]

    def _estimate(self, shard: Shard, seconds: float) -> None:
        """After the first shard, says how long the rest takes."""
        if self._estimated:
            return
        self._estimated = True
        left = sum(shard.count for _, shard in self.folder.missing(self.info))
        if left:
            hours = seconds / shard.count * left / 3600
            line_console().print(
                f"{seconds / shard.count:.3g} s a view; the {left:,} views that are left take {hours:.2g} h in one "
                "process; further processes with the same command share them"
            )

    _estimated = False

    def _finish(self) -> CacheInfo:
        """Describes the complete cache, with the broken images of all shards."""
        broken: set[str] = set()
        for shard in self.info.shards():
            with safe_open(self.folder.path(shard), framework="pt") as file:
                broken |= set(json.loads(file.metadata()["broken"]))
        done = replace(self.info, broken=tuple(sorted(broken)), complete=True)
        with locked(self.folder.locks, 0, 1, wait=True):
            self.folder.write(done)
        return done


def name_order(views: Views[Any]) -> list[int]:
    """The images in the order of their names, by which a cache counts them."""
    return sorted(range(len(views)), key=views.name)


def require_space(root: Path, size: int) -> None:
    """Refuses to write more than the disk has room for.

    Raises:
        UserError: Less than 1.05 times `size` bytes are free.
    """
    free = free_bytes(root)
    if free < ROOM * size:
        raise UserError(
            f"{root}: {free / 1e9:.2f} GB are free, and {ROOM * size / 1e9:.2f} GB are needed for what is still to be "
            "written; free space, give --out on another disk, or choose fewer data.views or a smaller "
            "model.target_dtype; the same command goes on where it stopped"
        )


def free_bytes(root: Path) -> int:
    """Free bytes on the disk that a folder lies on, or will lie on."""
    return shutil.disk_usage(next(place for place in (root, *root.absolute().parents) if place.is_dir())).free


def _agreed(folder: CacheFolder, info: CacheInfo) -> CacheInfo:
    """The header of the folder: that of the process that was there first."""
    folder.root.mkdir(parents=True, exist_ok=True)
    with locked(folder.locks, 0, 1, wait=True):
        if not folder.header.is_file():
            folder.write(info)
            return info
        there = folder.read()
    if difference := first_difference(there.key, info.key):
        name, stored, wanted = difference
        raise UserError(
            f"{folder} holds a cache of other targets: {name} is {stored} there and {wanted} in the recipe; give "
            "another --out, or remove the folder"
        )
    return replace(there, broken=(), complete=False)


def _with_digest(key: SampleKey | int, sample: Any) -> Any:
    asked = key if isinstance(key, int) else key.index
    return {
        "image": sample["image"],
        "index": sample["index"],
        "asked": asked,
        "view_digest": view_digest(sample["image"]),
    }


def _joined(parts: list[dict[str, Encoded]]) -> dict[str, Encoded]:
    return {
        feature: {name: torch.cat([part[feature][name] for part in parts]) for name in encoded}
        for feature, encoded in parts[0].items()
    }
