"""Prints the commands to run after a fit."""

import shlex
from importlib.util import find_spec

import torch
from rich.console import Console

from distill.contracts import StudentBase
from distill.launch.fit import Fitted
from distill.runs.folder import RunFolder
from distill.runs.loading import loading_lines

_OF_MASK_RCNN = ("mmdet", "mmengine", "mmcv")
_PLAIN_HEAD = "--model.head heads.DenseMasks"  # which is there without an extra
_SHOWN = 10  # broken images that are named


def print_next_steps(fitted: Fitted) -> None:
    """Prints what a fit wrote, which broken images it skipped, and what to type next."""
    folder, student, skipped = fitted.folder, fitted.task.student, fitted.data.skipped
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    written = [entry.name for entry in sorted(folder.path.iterdir()) if not entry.name.startswith(".")]
    console.print(f"\nWrote {folder}/: {', '.join(written)}")
    console.print(f"Waiting for data took {fitted.data_wait:.0%} of the training time.")
    if skipped:
        more = " ..." * (len(skipped) > _SHOWN)
        console.print(f"Skipped {len(skipped)} broken images: {', '.join(skipped[:_SHOWN])}{more}")
    command = next_command(folder, fitted.task.name, student, fitted.data.image_size)
    console.print(f"Next:\n  {command}")
    if fitted.task.name == "distillation":
        own = fine_tuning_command(folder, student, fitted.data.image_size, own_recipe="mine.yaml")
        console.print(
            "YOUR_DATA is a folder that `distill data prepare` wrote. On COCO files, which a recipe of yours names as "
            f'mine.yaml in the README ("Train on your own labels"):\n  {own}',
        )
    if _PLAIN_HEAD in command:
        console.print(f"Mask R-CNN needs pip install 'distill-rs[mmdet]'; then leave out {_PLAIN_HEAD}.")
    if fitted.task.name != "distillation":
        predict = f"distill predict {shlex.quote(str(folder))} YOUR_IMAGES --out predicted"
        console.print(f"On new images:\n  {predict}")
    console.print("In Python:")
    console.print("\n".join(f"  {line}" for line in loading_lines(folder, student).splitlines()))


def next_command(folder: RunFolder, task: str, student: StudentBase, image_size: int) -> str:
    """The command to run after a fit: score it, or fine-tune the distilled student.

    Args:
        folder: The run folder.
        task: The `name` of its task.
        student: The run's student.
        image_size: Side of its views, in pixels, which are a size that it takes.
    """
    if task != "distillation":
        return f"distill test {shlex.quote(str(folder))}"
    return fine_tuning_command(folder, student, image_size)


def fine_tuning_command(folder: RunFolder, student: StudentBase, image_size: int, own_recipe: str = "") -> str:
    """The command that fine-tunes a distilled student on labels.

    Args:
        folder: The run folder of the distillation.
        student: See `next_command`.
        image_size: See `next_command`.
        own_recipe: The user's recipe that names the labels; without it, a prepared data set in place of YOUR_DATA.
    """
    size = "" if torch.cuda.is_available() else " size/cpu"
    weights = shlex.quote(str(folder.student))
    if not student.is_project_student:  # whose arguments the file does not hold
        weights = f"{student.class_path} --model.student.checkpoint {weights}"
    recipes = f"{size} {own_recipe}" if own_recipe else f" data/prepared{size}"  # the user's goes over all others
    root = "" if own_recipe else " --data.root YOUR_DATA"
    head = "" if all(find_spec(package) for package in _OF_MASK_RCNN) else f" {_PLAIN_HEAD}"
    data = f"{head}{root} --data.image_size {image_size}"
    return f"distill fit finetune/mask_rcnn{recipes}{data} --model.student {weights}"
