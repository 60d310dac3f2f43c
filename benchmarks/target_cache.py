"""Stored targets against a live teacher: CPU time of a step, of writing, and what int8 costs in quality.

    python benchmarks/target_cache.py                              # SAM ViT-B at 512 px, random weights, 2 minutes
    python benchmarks/target_cache.py --image-size 256 --variant tiny --batch-size 4    # steps of size/cpu_rs4d
    python benchmarks/target_cache.py --image-size 1024 --images 1 --steps 1            # steps of rs4d_small, one image
    python benchmarks/target_cache.py --int8 rs4d_small size/cpu_rs4d --data.root IMAGES --trainer.max_steps 300

Times are of one thread and of the process (`time.process_time`), so that a busy machine changes them little; live and
cached steps take turns, and their losses are compared first. With `--int8`, what follows is a recipe of a distillation
and its overrides; it is fitted with float32 and int8 targets for three seeds, and their `val/l1_ratio` are compared. A
live teacher's targets are rounded as stored ones are, so no cache is needed for that. Finished runs are kept: the same
command goes on.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import Bar, console, make_table, number, print_goals, processor
from torch import Tensor

from distill import DistillationModule
from distill.data import ImageFolder
from distill.files import read_json
from distill.launch.api import start_fit
from distill.launch.parse import ParsedRecipe
from distill.recipe.command_line import split
from distill.runs.folder import RunFolder, RunState
from distill.synthetic.scenes import write_scenes
from distill.targets.cache.folder import CacheFolder, CacheInfo, StoredTarget, shard_entries
from distill.targets.cache.reader import StoredTargets
from distill.targets.cache.teacher import CachedTeacher
from distill.targets.cache.writer import CacheWriter
from distill.tasks.losses.features import LossSettings
from students import RS4D
from teachers import SAM

FASTER, WAIT, OVERHEAD, DISK, INT8 = 4, 0.10, 1.05, 1.01, 0.01  # goals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=512, help="side of the view in pixels")
    parser.add_argument("--images", type=int, default=4, help="that a cache is written of")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="of each kind")
    parser.add_argument("--variant", default="small", help="of RS4D")
    parser.add_argument("--out", type=Path, default=Path("runs/target_cache"), help="where runs of --int8 are kept")
    parser.add_argument("--int8", nargs=argparse.REMAINDER, help="a recipe and its overrides")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.int8:
        compare_precisions(arguments.int8, arguments.out)
    else:
        compare_times(arguments)
    console.print(f"torch {torch.__version__}, {processor()}")


def compare_times(arguments: argparse.Namespace) -> None:
    if arguments.batch_size > arguments.images:
        raise SystemExit(f"--batch-size is {arguments.batch_size}, and there are {arguments.images} images")
    torch.manual_seed(0)
    size = arguments.image_size
    teacher = SAM(image_size=size, pretrained=False)
    student = RS4D(arguments.variant, image_size=size)
    raw = LossSettings({"l1": 1.0}, standardize="none")  # which needs no calibration
    live = DistillationModule(teacher, student, loss=raw, target_dtype="float16")
    with tempfile.TemporaryDirectory() as place:
        written = write_scenes(place, "train", arguments.images, image_size=size)
        spent: list[float] = []

        def data() -> ImageFolder:
            settings: dict[str, Any] = {"val_fraction": 0.0, "views": 1, "seed": 0, "num_workers": 0}
            return ImageFolder(str(written / "images"), size, batch_size=arguments.batch_size, **settings)

        def teach(images: Tensor) -> dict[str, Tensor]:
            start = time.process_time()
            maps = live.match.targets.unrounded(images)
            spent.append(time.process_time() - start)
            return {"neck": maps}

        plain, stored = data(), data()
        folder = CacheFolder(Path(place) / "cache")
        writer = CacheWriter(folder, header(live, arguments, size), plain.dataset("train"), None, teach)
        teach(torch.rand(1, 3, size, size))  # warm
        spent.clear()
        start = time.process_time()
        info = writer.write()
        writing = time.process_time() - start
        disk = sum(path.stat().st_size for path in folder.root.iterdir()) / (
            arguments.images * 2 * live.match.targets.channels * (size // 16) ** 2
        )
        plain.dataset("train").addition = None
        views = stored.dataset("train")
        views.addition = StoredTargets(folder, info, views, False, "error", "")
        cached = DistillationModule(CachedTeacher(str(folder)), student, loss=raw, target_dtype="float16")
        cached.load_state_dict(live.state_dict())
        kinds = {"live": (live, plain), "cached": (cached, stored)}
        times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in kinds}
        steppers = {name: stepper(*kind) for name, kind in kinds.items()}
        losses = {name: step()[1] for name, step in steppers.items()}
        if losses["live"] != losses["cached"]:
            raise SystemExit(f"the first losses differ ({losses}); times would mean nothing")
        for _ in range(arguments.steps):
            for name, step in steppers.items():
                times[name].append(step()[0])
    table = make_table(
        f"SAM ViT-B ({teacher.precision}) to RS4D {arguments.variant}, {size} px, batch {arguments.batch_size}",
        "targets",
        "s / step",
        "making targets",
        "loading",
    )
    medians = {name: statistics.median(sum(step) for step in steps) for name, steps in times.items()}
    shares = {
        name: [statistics.median(step[part] / sum(step) for step in steps) for part in (0, 1)]
        for name, steps in times.items()
    }
    for name, (loading, teaching) in shares.items():
        table.add_row(name, number(medians[name]), f"{teaching:.1%}", f"{loading:.1%}")
    console.print(table)
    console.print(f"first losses are equal to the bit; writing: {writing:.2f} s, the teacher of it {sum(spent):.2f} s")
    print_goals(
        [
            Bar("CPU time of a live step, over that of a cached one", medians["live"] / medians["cached"], FASTER),
            Bar(f"{WAIT:.0%} over the share of loading in a cached step", WAIT / shares["cached"][0], 1),
            Bar(f"{OVERHEAD} teacher's times over the writer's", OVERHEAD * sum(spent) / writing, 1),
            Bar(f"{DISK} times the arithmetic over the disk's bytes", DISK / disk, 1),
        ]
    )


def header(task: DistillationModule, arguments: argparse.Namespace, size: int) -> CacheInfo:
    one = task.match.targets
    shape = (one.channels, *one.grid(size, size))
    return CacheInfo(
        key={"format": 1},
        targets={one.feature: StoredTarget(shape, 16)},
        dtype="float16",
        views=1,
        images=arguments.images,
        validation_images=0,
        shard_entries=shard_entries(2 * shape[0] * shape[1] * shape[2], arguments.batch_size),
        batch_size=arguments.batch_size,
        teacher={"class": "teachers.SAM", "label": "SAM", "digest": ""},
    )


def stepper(task: DistillationModule, data: ImageFolder) -> Callable[[], tuple[tuple[float, float, float], float]]:
    """A function that takes one training step: CPU seconds of loading, of targets and of the student; and the loss."""
    optimizer = torch.optim.AdamW(task.student.parameters(), lr=0.0)  # both train the same student
    loader = iter(data.train_dataloader())

    def step() -> tuple[tuple[float, float, float], float]:
        nonlocal loader
        torch.manual_seed(0)
        start = time.process_time()
        batch = next(loader, None)
        if batch is None:
            loader = iter(data.train_dataloader())
            batch = next(loader)
        loaded = time.process_time()
        target = task.match.target(task.raw_target(batch))
        taught = time.process_time()
        maps, _ = task.student_maps(batch["image"], corrupted=True)
        loss = (task.match.estimate(maps, (target.shape[-2], target.shape[-1])) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return (loaded - start, taught - loaded, time.process_time() - taught), float(loss.detach())

    return step


def compare_precisions(words: list[str], out: Path) -> None:
    ratios: dict[str, list[float]] = {"float32": [], "int8": []}
    for seed in range(3):
        for dtype, found in ratios.items():
            place = out / f"{dtype}-seed{seed}"
            recipe, given = split([*words, "--model.target_dtype", dtype, "--seed_everything", str(seed)])
            assert recipe is not None
            if RunFolder(place).state is not RunState.FINISHED:
                start_fit(ParsedRecipe("fit", recipe, [*given, f"--run.dir={place}", "--run.overwrite=true"]))
            found.append(float(read_json(RunFolder(place).summary)["val/l1_ratio"]))
    table = make_table("val/l1_ratio", "targets", *(f"seed {seed}" for seed in range(3)), "mean")
    for dtype, found in ratios.items():
        table.add_row(dtype, *(f"{value:.5f}" for value in found), f"{statistics.mean(found):.5f}")
    console.print(table)
    pairs = zip(ratios["float32"], ratios["int8"], strict=True)
    worst = max(abs(second / first - 1) for first, second in pairs)
    print_goals([Bar(f"{INT8:.0%} over the largest change by int8 ({worst:.2%})", INT8 / max(worst, 1e-9), 1)])


if __name__ == "__main__":
    main()
