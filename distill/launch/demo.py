"""A teacher, its distilled student and the same student from scratch on synthetic scenes, compared.

Every stage is an ordinary recipe under recipes/demo/, run by the functions that a user calls.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from rich.console import Console

from distill.errors import UserError
from distill.launch import api
from distill.launch.compare import compare
from distill.report.compare.comparison import FILES, Comparison
from distill.runs.folder import RunFolder
from distill.synthetic.scenes import write_scenes

IMAGE_SIZE = 128
# Few labels, many images: the situation distillation is for. The teacher alone sees the large labelled set.
SCENES = {"teacher": 640, "unlabelled": 960, "labelled": 16, "validation": 32, "test": 96}
RUNS = ("teacher", "distill", "scratch", "distilled")


def run_demo(folder: Path, seed: int) -> Comparison:
    """Runs all stages.

    Args:
        folder: Where everything is written: data/, a folder for each of `RUNS`, and compare/ with the comparison.
        seed: Of scenes, weights and order.

    Returns:
        The comparison of the runs, with times that were taken for it, in turns.
    """
    console = Console(soft_wrap=True, highlight=False)
    runs = {name: RunFolder(folder / name) for name in RUNS}
    console.rule(f"scenes, seed {seed}")
    data = folder / "data"
    for split, count in SCENES.items():
        write_scenes(data, split, count, IMAGE_SIZE, seed, labelled=split != "unlabelled")
    console.print(f"wrote {sum(SCENES.values())} scenes to {data}")

    def settings(name: str) -> dict[str, object]:
        place = {"run.dir": runs[name].path, "run.overwrite": True, "run.experiment": folder.name}
        return {**place, "seed_everything": seed}

    console.rule("distill fit recipes/demo/teacher.yaml")
    api.fit("demo/teacher", **settings("teacher"), **_labelled(data, "teacher"))
    for name in FILES:  # of an earlier demo, whose teacher has been replaced
        (page(folder).parent / name).unlink(missing_ok=True)
    console.rule("distill fit recipes/demo/distill.yaml")
    sources = {"data.root": data / "unlabelled" / "images", "model.teacher.checkpoint": runs["teacher"].student}
    api.fit("demo/distill", **settings("distill"), **sources)
    log = folder / "scratch.log"
    console.rule(f"distill fit recipes/demo/scratch.yaml > {log} & distill fit recipes/demo/distilled.yaml")
    few = _labelled(data, "labelled")
    distilled = {"model.student.checkpoint": runs["distill"].student}
    _side_by_side(
        ["demo/scratch", *api.as_words({**settings("scratch"), **few})],
        log,
        ["demo/distilled", *api.as_words({**settings("distilled"), **few, **distilled})],
    )
    for name in ("teacher", "scratch", "distilled"):
        console.rule(f"distill test {runs[name]}")
        api.test(runs[name])
    # Timed anew: the run folders' own times were taken while two trainings shared the cores.
    console.rule(f"distill compare {' '.join(str(run) for run in runs.values())} --measure")
    return compare([run.path for run in runs.values()], out=page(folder).parent, measure=True)


def page(folder: Path) -> Path:
    """The page that compares the runs of a demo.

    Args:
        folder: Where the demo was written.
    """
    return folder / "compare" / "compare.html"


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """What to type after the demo, and what for: first what needs nothing but the demo's own results.

    Args:
        folder: Where the demo was written.
    """

    def quoted(path: Path) -> str:
        return shlex.quote(str(path))

    distilled = RunFolder(folder / "distilled")
    teacher = quoted(RunFolder(folder / "teacher").student)
    sam = "--model.teacher.checkpoint sam_vit_b_01ec64.pth"
    recipe = "rs4d_small" if torch.cuda.is_available() else "rs4d_small size/cpu_rs4d"
    longer = f"--run.dir {quoted(folder / 'longer')} --trainer.max_steps 1600"
    again = f"distill compare {quoted(folder)}/* --out {quoted(page(folder).parent)} --measure"
    return [
        ("Next, score the distilled student again", f"distill test {quoted(distilled.path)}"),
        (
            "Find objects in images with it",
            f"distill predict {quoted(distilled.path)} {quoted(folder / 'data' / 'test' / 'images')} "
            f"--out {quoted(folder / 'predicted')}",
        ),
        ("Train it for twice as long", f"distill fit {quoted(distilled.recipe)} {longer}"),
        ("Compare all runs again, those that you add among them", again),
        (
            "Distil the demo's teacher on your own images",
            f"distill fit recipes/demo/distill.yaml --run.dir {quoted(folder / 'mine')} --data.root YOUR_IMAGES "
            f"--model.teacher.checkpoint {teacher}",
        ),
        (
            "Distil SAM, whose weights the README of segment-anything offers",
            f"distill fit {recipe} --data.root YOUR_IMAGES {sam}",
        ),
    ]


def _labelled(data: Path, split: str) -> dict[str, Path]:
    """Keys of the recipes' data: trained on `split`, validated and tested on the same images."""
    sources = {"train": split, "val": "validation", "test": "test"}
    return {
        f"data.{key}_{kind}": data / source / file
        for key, source in sources.items()
        for kind, file in (("images", "images"), ("annotations", "annotations.json"))
    }


def _side_by_side(hidden: list[str], log: Path, shown: list[str]) -> None:
    """Fits two recipes at once, the output of the first in a file.

    Each on half the cores: steps of a small model leave most of a second core idle, so two trainings at once take much
    less than twice the time of one.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // 2))}
    fit = [sys.executable, "-m", "distill", "fit"]
    with log.open("w", encoding="utf-8") as file:
        other = subprocess.Popen([*fit, *hidden], stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            code = subprocess.run([*fit, *shown], env=environment).returncode
            if code == 0:
                code = other.wait()
        finally:
            other.kill()
            other.wait()
    if code != 0:
        raise UserError(f"fine-tuning a student ended with exit code {code}; {log} and the lines above say why")
