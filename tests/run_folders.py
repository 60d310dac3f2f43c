"""Writes run folders with planted numbers, as `distill fit` and `distill test` would leave them, without training."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from distill.report.pictures.stored import FEATURES, PREDICTIONS, Picture, write_index
from distill.runs.folder import RunFolder

TASKS = {
    "distillation": "distill.DistillationModule",
    "instances": "distill.FineTuningModule",
    "segmentation": "distill.SegmentationModule",
}
HEADS = {"instances": "MaskRCNN", "segmentation": "UPerNet"}
DATA = {"distillation": "ImageFolder", "instances": "NWPU", "segmentation": "LoveDA"}
MACHINE = {"cpu": "Some CPU @ 3 GHz", "threads": 4, "gpus": []}
COSTS = {"params": 1_000_000, "macs": 200_000_000, "cpu_ms": 10.0, "memory_mb": 100.0, "train_hours": 0.5}
SIZE = 4_000_000  # bytes of student.safetensors
IMAGE_SET = "0123456789ab"
VERSIONS = {"distill-rs": "0.1.0", "torch": "2.15.0"}


def write_run(
    path: Path,
    task: str = "instances",
    *,
    student: str = "RS4D tiny",
    init: str = "scratch",
    weights: str | None = None,
    teacher: str = "ViT vit_tiny",
    data: str | None = None,
    seed: int = 0,
    scores: Mapping[str, float | None] | None = None,
    costs: Mapping[str, float] = COSTS,
    size: int = SIZE,
    scored: Mapping[str, Any] | None = None,
    machine: Mapping[str, Any] = MACHINE,
    head: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, float]] = (),
    classes: Mapping[str, tuple[int, float]] | None = None,
    finished: bool = True,
) -> RunFolder:
    """Writes the folder of a run.

    Args:
        path: The folder; the run counts as started in the one above it.
        task: One of `TASKS`.
        student: Label of the student; its words become class and variant.
        init: "scratch", "pretrained" or "distilled".
        weights: The file of weights in the recipe: of the student, or of a distillation's teacher.
        teacher: Label of the teacher of a distillation or of a distilled student.
        data: Label of the data set.
        seed: Seed of the run.
        scores: Scores of `distill test`, or of a distillation `distill validate`, with their split; None for a run that
            has not been scored.
        costs: Costs in summary.json.
        size: Bytes of student.safetensors.
        scored: Facts of the scoring that differ from the usual ones.
        machine: Processor, threads and GPUs.
        head: Label of the head or decoder.
        recipe: Values of the recipe by dotted keys, such as `model.init_args.optim.lr`.
        history: Rows of metrics.csv.
        classes: Number of objects (pixels) and AP (IoU) of each class.
        finished: Whether summary.json is there.
    """
    folder, kind = RunFolder(path), path.name
    data = data or DATA[task]
    path.mkdir(parents=True)
    content = _recipe(task, student, init, weights, data, seed, kind)
    for key, value in (recipe or {}).items():
        _put(content, key.split("."), value)
    folder.recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    environment = {"python": "3.11.7", "platform": "Linux", **machine, "versions": VERSIONS}
    started = {"started": "2026-11-28T09:00:00+00:00", "started_in": str(path.parent)}
    folder.environment.write_text(json.dumps(environment | started))
    if history:
        _write_csv(folder.metrics, list(history))
    if not finished:
        folder.checkpoints.mkdir()
        folder.last.touch()
        return folder
    with folder.student.open("wb") as file:
        file.truncate(size)
    facts: dict[str, Any] = {"task": task, "student": student, "init": init, "data": data, "image_size": 128}
    facts |= {"head": head or HEADS[task]} if task in HEADS else {"teacher": teacher}
    facts |= {"init_teacher": teacher} if init == "distilled" else {}
    facts |= {"variant": student.partition(" ")[2], "lr": 1e-3, "batch_size": 8, "val_image_set": IMAGE_SET}
    folder.summary.write_text(json.dumps({**facts, **costs, "steps": 100, **_validation(history)}))
    if scores is not None:
        stage = "validate" if task == "distillation" else "test"
        folder.scores(stage).write_text(json.dumps(dict(scores)))
        usual = {"checkpoint": "last.ckpt", "step": 100, "image_size": 128, "image_set": IMAGE_SET, "overrides": {}}
        usual |= {"images": 12} if task != "distillation" else {}
        usual |= {"max_detections": 100} if task == "instances" else {}
        folder.facts(stage).write_text(json.dumps(usual | dict(scored or {})))
        if classes:
            _write_csv(folder.class_scores(stage), _class_rows(task, classes))
    return folder


def write_pictures(folder: RunFolder, stage: str, step: int, names: Sequence[str], task: str = "instances") -> None:
    """Writes small plain pictures of some images as a run stores them."""
    place = folder.pictures(stage) / str(step) if stage == "fit" else folder.pictures(stage)
    place.mkdir(parents=True)
    parts = FEATURES if task == "distillation" else PREDICTIONS
    pictures = []
    for index, name in enumerate(names):
        files = {part: place / f"{index}_{part}.png" for part in parts}
        for position, file in enumerate(files.values()):
            Image.new("RGB", (32, 32), (40 * index % 256, 50 * position, seed_colour(folder))).save(file)
        pictures.append(Picture(name, files, {parts[-1]: f"{index + 1} objects"}))
    write_index(place, step, pictures)


def seed_colour(folder: RunFolder) -> int:
    """Another shade of blue for each run."""
    return sum(map(ord, folder.name)) % 256


def write_mixture(place: Path) -> list[RunFolder]:
    """Runs of three tasks: distillations, three students on instances over three seeds, and one on segmentation."""
    runs = [
        write_run(place / "teacher", student="TimmStudent vit_tiny", scores=_instance_scores(0.42), costs=_costs(6))
    ]
    made = {"RS4D tiny": 1.0, "RS4D small": 2.2, "RepViT m1": 1.6}
    for number, (student, size) in enumerate(made.items()):
        slug = student.lower().replace(" ", "_")
        quality = 0.25 + 0.03 * size if number < 2 else 0.29
        ratio = 0.6 - 0.1 * size
        rows = [
            {"step": step, "hours": step / 400, "val/l1_ratio": ratio + 0.4 * math.exp(-step / 40)} for step in _STEPS
        ]
        scores = {"val/l1": 0.2 * ratio, "val/cosine": 1 - ratio / 5, "val/trivial_l1": 0.2, "val/l1_ratio": ratio}
        distilled = write_run(
            place / f"distil_{slug}",
            "distillation",
            student=student,
            weights="teacher/student.safetensors",
            costs=_costs(size),
            scores=scores,
            history=rows,
        )
        write_pictures(distilled, "validate", 100, ["a.png", "b.png"], "distillation")
        runs.append(distilled)
        for init, gain in (("scratch", 0.0), ("distilled", 0.02 + 0.01 * number)):
            for seed in range(3):
                luck = (2 * seed + number * (init == "scratch")) % 3 - 1
                reached = quality + gain + 0.004 * luck * (1 + number)
                rows = [
                    {"step": s, "hours": s / 200, "train/loss": 3 * math.exp(-s / 50), "val/mask/AP": reached * s / 100}
                    for s in _STEPS
                ]
                run = write_run(
                    place / f"{slug}_{init}_{seed}",
                    student=student,
                    init=init,
                    seed=seed,
                    weights=f"distil_{slug}/student.safetensors",
                    costs=_costs(size),
                    size=int(4e6 * size),
                    scores=_instance_scores(reached),
                    history=rows,
                    classes={"ship": (123, reached - 0.05), "building": (75, reached + 0.1), "vehicle": (9, reached)},
                )
                write_pictures(run, "test", 100, ["a.png", "b.png"])
                runs.append(run)
    for init, miou in (("scratch", 0.48), ("distilled", 0.53)):
        scores = {"test/mIoU": miou, "test/macro_F1": miou + 0.1, "test/accuracy": miou + 0.2}
        classes = {"water": (9000, miou + 0.1), "road": (800, miou - 0.2)}
        path = place / f"landcover_{init}"
        runs.append(
            write_run(path, "segmentation", init=init, weights="distil_rs4d_tiny", scores=scores, classes=classes)
        )
    runs.append(write_run(place / "unfinished", student="RS4D small", init="scratch", seed=7, finished=False))
    return runs


_STEPS = range(10, 101, 10)


def _costs(size: float) -> dict[str, float]:
    return {key: value * size for key, value in COSTS.items()}


def _instance_scores(mask: float) -> dict[str, float | None]:
    return {
        "test/box/AP": mask + 0.03,
        "test/mask/AP": mask,
        "test/box/AP50": mask + 0.2,
        "test/mask/AP50": mask + 0.18,
        "test/mask/AP_large": None,
        "test/boundary/AP": mask / 2,
    }


def _recipe(task: str, student: str, init: str, weights: str | None, data: str, seed: int, name: str) -> dict[str, Any]:
    """A recipe as short as one can be read."""
    of_class, _, variant = student.partition(" ")
    weights = weights or "distil/student.safetensors"
    arguments: dict[str, Any] = {"variant": variant, "image_size": 128, "checkpoint": None}
    if init == "distilled":
        arguments["checkpoint"] = weights
    if init == "pretrained":
        arguments["pretrained"] = True
    model: dict[str, Any] = {"student": {"class_path": f"students.{of_class}", "init_args": arguments}}
    if task == "distillation":
        model["teacher"] = {"class_path": "teachers.ViT", "init_args": {"name": "vit_tiny", "checkpoint": weights}}
    else:
        model["head"] = {"class_path": f"heads.{HEADS[task]}", "init_args": {"score_threshold": 0.05}}
    model["optim"] = {"lr": 0.001, "weight_decay": 0.05}
    return {
        "seed_everything": seed,
        "trainer": {"max_steps": 100, "precision": None},
        "model": {"class_path": TASKS[task], "init_args": model},
        "data": {
            "class_path": f"distill.data.{data}",
            "init_args": {"root": "data", "image_size": 128, "batch_size": 8, "seed": None},
        },
        "run": {"dir": name, "experiment": "test", "seeds": None},
    }


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _validation(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in history:
        found |= {key: value for key, value in row.items() if key.startswith("val/")}
    return found


def _class_rows(task: str, classes: Mapping[str, tuple[int, float]]) -> list[dict[str, object]]:
    if task == "segmentation":
        return [
            {
                "class": name,
                "images": 4,
                "pixels": count,
                "IoU": value,
                "F1": value,
                "precision": value,
                "recall": value,
            }
            for name, (count, value) in classes.items()
        ]
    return [
        {"kind": kind, "class": name, "objects": count, "AP": round(value + shift, 6), "AP50": "n/a", "AR": "n/a"}
        for kind, shift in (("box", 0.01), ("mask", 0.0))
        for name, (count, value) in classes.items()
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    columns = sorted({key for row in rows for key in row})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
