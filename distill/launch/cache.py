"""`distill cache`: stores the targets of a recipe's teacher for a pool of views."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
import pytorch_lightning as pl
import torch
import torchvision
from torch import Tensor

from distill.errors import UserError
from distill.launch.attach_cache import cache_command
from distill.launch.cache_key import key_of, weights_file
from distill.launch.cached_teacher import require_fixed_views
from distill.launch.initial_weights import require_teachers
from distill.launch.parse import Built, ParsedRecipe
from distill.launch.process import contained, memory_kept
from distill.launch.trainer import require_device
from distill.phases import line_console, phase
from distill.runs.metadata import teacher_costs
from distill.targets.cache.folder import CacheFolder, CacheInfo, StoredTarget, entry_bytes, shard_entries
from distill.targets.cache.key import digest_of
from distill.targets.cache.verify import Verified, verify
from distill.targets.cache.writer import CacheWriter, free_bytes, require_space
from distill.targets.live import Passes
from distill.tasks.distillation import DistillationModule
from distill.training.precision import require_precision

CACHES = Path("caches")


@dataclass(frozen=True)
class Cached:
    """A complete cache.

    Attributes:
        folder: Where it is.
        info: Its header.
        verified: What `--verify` found, if that was asked for.
    """

    folder: CacheFolder
    info: CacheInfo
    verified: Verified | None


def make_cache(recipe: ParsedRecipe, out: Path | None = None, check: bool = False) -> Cached:
    """Writes the missing files of the cache of a recipe for "fit".

    Args:
        recipe: A distillation with a pool of views. Its `model.cache` is left aside, and so are targets of
            `model.targets` with teachers of their own.
        out: The folder; by default `caches/<recipe>-<digest of the key>`.
        check: Whether to read everything again and recompute some entries.

    Raises:
        UserError: Bad input, or no room on the disk; what is written stays, and the same call goes on.
    """
    with contained(), recipe.explained(), memory_kept(recipe.config.trainer):
        _require_possible(recipe)
        built = recipe.build()
        with phase("reading the data's index"):
            built.data.setup("fit")
        teach = _teach(recipe, built.task)  # first: the teacher's precision is that of its device
        info = _info(recipe, built)
        folder = CacheFolder(out or CACHES / f"{recipe.recipe.path.stem}-{digest_of(info.key)[:8]}")
        data = built.data
        validation = data.dataset("val")
        writer = CacheWriter(
            folder, info, data.dataset("train"), validation if len(validation) else None, teach, data.num_workers
        )
        _announce(folder, writer.info)
        done = writer.write()
        command = f"`{cache_command(recipe)} --out {folder}`"
        found = verify(folder, done, data.dataset("train"), validation, teach, command) if check else None
        data.teardown("fit")
        return Cached(folder, done, found)


def _require_possible(recipe: ParsedRecipe) -> None:
    config = recipe.config
    if not issubclass(recipe.task_class, DistillationModule):
        raise UserError(f"{recipe.recipe} is no distillation; a cache holds the targets of one")
    arguments = config.model.init_args
    arguments.cache = None
    # Targets of other teachers are not stored: these teachers are neither built nor is a file of theirs needed.
    arguments.targets = [one for one in arguments.targets or [] if one.teacher is None] or None
    require_fixed_views(config.data)
    require_teachers(config.model, "a cache")
    require_device(config.trainer)


def _info(recipe: ParsedRecipe, built: Built) -> CacheInfo:
    """The header of the cache."""
    task, data, size = built.task, built.data, built.data.image_size
    key = key_of(recipe.config, task, data, ("train", "val"))
    dtype = recipe.config.model.init_args.target_dtype
    targets = {
        one.stored_name: StoredTarget((one.channels, *one.grid(size, size)), task.teacher.reduction[one.feature])
        for one in task.stored_targets
    }
    entry = entry_bytes({name: one.shape for name, one in targets.items()}, dtype)
    teacher = task.teacher
    return CacheInfo(
        key=key,
        targets=targets,
        dtype=dtype,
        views=data.view_pool,
        images=len(data.dataset("train")),
        validation_images=len(data.dataset("val")),
        shard_entries=shard_entries(entry, data.batch_size),
        batch_size=data.batch_size,
        teacher={
            "class": teacher.class_path,
            "label": teacher.label,
            "digest": teacher.digest,
            "precision": teacher.precision,
        },
        costs=teacher_costs(task, size),
        made_with={
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "Pillow": PIL.__version__,
            "CPU capability": torch.backends.cpu.get_cpu_capability(),
        },
        weights=weights_file(recipe.config.model),
    )


def _teach(recipe: ParsedRecipe, task: Any) -> Callable[[Tensor], dict[str, Tensor]]:
    """The teacher as a training step runs it: on the recipe's device, in its precision."""
    given = recipe.config.trainer
    trainer = pl.Trainer(
        accelerator=given.accelerator,
        devices=1,
        precision=given.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    require_precision(trainer, task.float32_only())
    device, plugin = trainer.strategy.root_device, trainer.precision_plugin
    task.teacher.to(device)

    @torch.no_grad()
    def teach(images: Tensor) -> dict[str, Tensor]:
        images = images.to(device)
        with plugin.train_step_context():
            passes: Passes = {}
            return {one.stored_name: one.unrounded(images, passes) for one in task.stored_targets}

    return teach


def _announce(folder: CacheFolder, info: CacheInfo) -> None:
    """Says what will be written and whether it fits."""
    missing = [shard for _, shard in folder.missing(info)]
    left = sum(shard.count for shard in missing) * info.entry_bytes
    shapes = ", ".join(f"{name} {'x'.join(map(str, one.shape))}" for name, one in info.targets.items())
    line_console().print(
        f"{folder}: {info.images:,} images x {info.views} views, {info.validation_images:,} validation images; "
        f"{shapes} in {info.dtype}: {info.total_bytes / 1e9:.2f} GB in {len(list(info.shards()))} files, "
        f"{left / 1e9:.2f} GB of them to write; {free_bytes(folder.root) / 1e9:.1f} GB are free"
    )
    require_space(folder.root, left)
