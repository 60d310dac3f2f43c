"""Adds stored targets to samples, in the workers of the loader.

Axes: C channels, h w the teacher's grid, S side of a view in pixels.
"""

from collections import OrderedDict
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from distill.data.sample_key import SampleKey
from distill.data.views.base import Views
from distill.errors import UserError
from distill.targets.cache.entries import CHECKSUM, SCALE, TARGET, VIEW, checksum, encoded_of, view_digest
from distill.targets.cache.folder import VALIDATION, CacheFolder, CacheInfo, Shard, view_name
from distill.targets.cache.settings import LIVE
from distill.targets.cache.writer import name_order

# Of a batch under `on_mismatch: live`: for each view "", or its image's name where the teacher has to make the targets.
# Texts stay in host memory, where that is read without waiting for the device.
MISSED = "target_missed"
_OPEN = 64  # shards that a worker keeps mapped


class StoredTargets:
    """Completes samples by `target`: for each feature what `distill.targets.rounding.decode` takes.

    The view is made anyway; its digest must be that of the view that the teacher saw. A checksum is compared when an
    entry is read for the first time.

    Args:
        folder: The cache.
        info: Its header.
        views: The views that it is attached to.
        validation: Whether these are the validation views.
        on_mismatch: See `distill.targets.cache.settings.CacheSettings`.
        command: Makes a fitting cache, for errors.
    """

    def __init__(
        self,
        folder: CacheFolder,
        info: CacheInfo,
        views: Views[Any],
        validation: bool,
        on_mismatch: str,
        command: str,
    ) -> None:
        self.folder = folder
        self.info = info
        self.validation = validation
        self.on_mismatch = on_mismatch
        self.command = command
        order = torch.tensor(name_order(views), dtype=torch.int64)
        self._positions = torch.empty_like(order)
        self._positions[order] = torch.arange(len(order))
        self._names = views.name
        pool = 1 if validation else info.views
        self._touched = torch.zeros(pool, len(order), dtype=torch.bool).share_memory_()  # by any worker
        self._files: OrderedDict[str, Any] = OrderedDict()  # of this worker

    def __call__(self, key: SampleKey | int, sample: Any) -> Any:
        """The sample with its stored targets.

        Raises:
            UserError: An entry is damaged, or the view is another one than the teacher saw (under "error").
        """
        if isinstance(key, int) != self.validation:  # a fixed view of a training image, of which nothing is stored
            return sample
        index, view = (key, 0) if isinstance(key, int) else (key.index, key.view)
        position = int(self._positions[index])
        name = VALIDATION if self.validation else view_name(view)
        shard, number = self.info.shard_of(name, position)
        entry = self._entry(shard, number)
        where = f"entry {number} of {self.folder.path(shard)}, image {self._names(index)!r}"
        if not self._touched[view, position]:
            if checksum({n: x for n, x in entry.items() if n != CHECKSUM}) != int(entry[CHECKSUM]):
                raise UserError(f"{where}: the checksum differs, the file is damaged; remove it and run {self.command}")
            self._touched[view, position] = True
        matches = view_digest(sample["image"]) == int(entry[VIEW])
        if not matches and self.on_mismatch != LIVE:
            made = ", ".join(f"{what} {version}" for what, version in self.info.made_with.items())
            raise UserError(
                f"{where}: the view is not the one that the teacher saw; the image has changed, or this machine "
                f"makes other views (the cache was made with {made}); make another with {self.command} --out DIR, or "
                "set model.cache.on_mismatch to live, for a teacher that sees such views again"
            )
        target = {feature: encoded_of(entry, feature) for feature in self.info.targets}
        missed = {MISSED: "" if matches else self._names(index)} if self.on_mismatch == LIVE else {}
        return {**sample, "target": target, **missed}

    def _entry(self, shard: Shard, number: int) -> dict[str, torch.Tensor]:
        path = self.folder.path(shard)
        try:
            if shard.name not in self._files:
                self._files[shard.name] = safe_open(path, framework="pt")
                if len(self._files) > _OPEN:
                    self._files.popitem(last=False)
            self._files.move_to_end(shard.name)
            file = self._files[shard.name]
            names = [VIEW, CHECKSUM, *(f"{TARGET}.{feature}" for feature in self.info.targets)]
            if self.info.dtype == "int8":
                names += [f"{SCALE}.{feature}" for feature in self.info.targets]
            return {name: file.get_slice(name)[number] for name in names}
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it and run {self.command}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files, which no other process can use."""
        return self.__dict__ | {"_files": OrderedDict()}
