"""A teacher, students distilled from it and from scratch, and bounds below and above, on synthetic scenes, compared.

Every stage is an ordinary recipe under recipes/demo/, run by the functions that a user calls.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from rich.console import Console

from distill.errors import UserError
from distill.files import write_json
from distill.launch import api
from distill.launch.compare import compare
from distill.phases import phase
from distill.report.compare.comparison import FILES, Comparison
from distill.runs.folder import RunFolder
from distill.synthetic.scenes import write_scenes
from distill.tasks.probes.features import student_features
from distill.tasks.probes.scenes import read_scenes, scene_scores
from distill.weights import load_student

IMAGE_SIZE = 128
# Few labels, many images: the situation distillation is for. The teacher and the upper bound alone see the large
# labelled set; probes draw their labels from scenes that no model was trained on.
SCENES = {"teacher": 1200, "unlabelled": 960, "labelled": 16, "probe": 128, "validation": 32, "test": 96}
PROBED = (4, 16, 64)  # labelled scenes of the probes
RUNS = ("teacher", "distill", "random", "scratch", "distilled", "all_labels")
GOOD_TEACHER = 0.45  # box AP50


def run_demo(folder: Path, seed: int) -> Comparison:
    """Runs all stages.

    Args:
        folder: Where everything is written: data/, a folder for each of `RUNS`, and compare/ with the comparison.
        seed: Of scenes, weights and order.

    Returns:
        The comparison of the runs, with times that were taken for it, in turns.

    Raises:
        UserError: A training failed.
    """
    console = Console(soft_wrap=True, highlight=False)
    runs = {name: RunFolder(folder / name) for name in RUNS}
    console.rule(f"scenes, seed {seed}")
    data = folder / "data"
    for split, count in SCENES.items():
        write_scenes(data, split, count, IMAGE_SIZE, seed, labelled=split != "unlabelled")
    console.print(f"wrote {sum(SCENES.values())} scenes to {data}")
    for name in FILES:  # of an earlier demo, whose teacher is replaced
        (page(folder).parent / name).unlink(missing_ok=True)

    def fit(name: str, **settings: object) -> list[str]:
        place = {"run.dir": runs[name].path, "run.overwrite": True, "run.experiment": folder.name}
        return ["fit", f"demo/{name}", *api.as_words({**place, "seed_everything": seed, **settings})]

    def test(name: str) -> list[str]:
        return ["test", str(runs[name])]

    precision = {"trainer.precision": _precision()}
    few = _labelled(data, "labelled")
    unlabelled = {"data.root": data / "unlabelled" / "images", "model.teacher.checkpoint": runs["teacher"].student}
    log = folder / "scratch.log"
    console.rule(f"distill fit demo/teacher, demo/distill, demo/distilled; demo/scratch and bounds > {log}")
    _side_by_side(
        [
            fit("scratch", **few),
            test("scratch"),
            fit("random", **few),
            test("random"),
            fit("all_labels", **_labelled(data, "teacher")),
            test("all_labels"),
        ],
        log,
        [
            fit("teacher", **_labelled(data, "teacher"), **precision),
            fit("distill", **unlabelled, **precision),
            fit("distilled", **few, **{"model.student.checkpoint": runs["distill"].student}),
            test("teacher"),
            test("distilled"),
        ],
    )
    _probe(runs, data)
    # Timed anew: the run folders' own times were taken while two trainings shared the cores.
    console.rule(f"distill compare {' '.join(str(run) for run in runs.values())} --measure")
    return compare([run.path for run in runs.values()], out=page(folder).parent, measure=True)


def _probe(runs: dict[str, RunFolder], data: Path) -> None:
    """Adds scores of probes of the frozen students to what was stored of the runs' test."""
    known, scored = (
        read_scenes(data / split / "images", data / split / "annotations.json") for split in ("probe", "test")
    )
    # What distillation learned is probed, before any label.
    weights = {**{name: run.student for name, run in runs.items()}, "distilled": runs["distill"].student}
    for name, run in runs.items():
        if name == "distill":
            continue
        with phase(f"probing {name}"), _one_thread():
            found = scene_scores(student_features(load_student(weights[name])), known, scored, PROBED)
        keys = {count: f"probe/{count} scenes/tokens" for count in found}
        scores = {f"test/{keys[count]}": score.mean for count, score in found.items()}
        write_json(run.scores("test"), {**run.read_scores("test"), **scores})
        spread = {keys[count]: score.sd for count, score in found.items() if score.sd is not None}
        write_json(run.facts("test"), {**run.read_facts("test"), "spread": spread})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, PyTorch uses one thread: over matrices as small as a probe's, several wait longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _precision() -> str:
    """How the teacher is trained and copied: in bfloat16 on processors that multiply it faster."""
    # torch.cpu.get_capabilities says the same and is public, but younger than the oldest PyTorch we run on.
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def page(folder: Path) -> Path:
    """The page that compares the runs of a demo.

    Args:
        folder: Where the demo was written.
    """
    return folder / "compare" / "compare.html"


def doubt(comparison: Comparison) -> str | None:
    """A warning for a demo whose teacher is too weak; None for any other.

    Args:
        comparison: Of a demo's runs.
    """
    rows = [row for section in comparison.sections for row in section["rows"] if row["role"] == "teacher"]
    found = [value["mean"] for row in rows if "mean" in (value := row["values"].get("box/AP50", {}))]
    if not found or max(found) >= GOOD_TEACHER:
        return None
    return (
        f"The teacher reaches {100 * max(found):.1f} box AP50, less than {100 * GOOD_TEACHER:.0f}: it is too weak for "
        "this to show what distillation is worth"
    )


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """Commands to run after the demo, and their purpose.

    Args:
        folder: Where the demo was written.
    """

    def quoted(path: Path) -> str:
        return shlex.quote(str(path))

    distilled = RunFolder(folder / "distilled")
    teacher = quoted(RunFolder(folder / "teacher").student)
    sam = "--model.teacher.checkpoint sam_vit_b_01ec64.pth"
    recipe = "rs4d_small" if torch.cuda.is_available() else "rs4d_small size/cpu_rs4d"
    longer = f"--run.dir {quoted(folder / 'longer')} --trainer.max_steps 600"
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


def _side_by_side(hidden: Sequence[list[str]], log: Path, shown: Sequence[list[str]]) -> None:
    """Runs two lists of commands of `distill` at once, each in one process, the output of the first in a file.

    Each on half the cores: a second core helps a step of a small model little, so this takes much less time than one
    list.

    Raises:
        UserError: A command failed; the other list is stopped.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // 2))}
    running: list[subprocess.Popen[bytes]] = []

    def run(commands: Sequence[list[str]], out: IO[str] | None, where: str) -> None:
        words = [sys.executable, "-u", "-m", "distill.cli.several", json.dumps(commands)]
        process = subprocess.Popen(words, stdout=out, stderr=out and subprocess.STDOUT, env=environment)
        running.append(process)
        if code := process.wait():
            raise UserError(f"a training or a test ended with exit code {code}; {where} say which and why")

    with log.open("w", encoding="utf-8") as file, ThreadPoolExecutor(2) as pool:
        try:
            hidden_lane = pool.submit(run, hidden, file, f"the last lines of {log}")
            for lane in as_completed([hidden_lane, pool.submit(run, shown, None, "the lines above")]):
                lane.result()
        finally:
            for process in running:
                process.kill()
