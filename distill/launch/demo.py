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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import torch

from distill.errors import Stopped, UserError
from distill.files import write_json
from distill.launch import api
from distill.launch.compare import compare
from distill.launch.demo_stages import is_scored, remove, states
from distill.phases import line_console, phase
from distill.report.compare.comparison import FILES, Comparison
from distill.runs.folder import RunFolder, RunState
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
NEEDS = {"distill": "teacher", "distilled": "distill"}  # whose weights a run starts from
SHOWN, HIDDEN = ("teacher", "distill", "distilled"), ("scratch", "random", "all_labels")
NUMBERED = (*SHOWN, *HIDDEN)
WHAT = {
    "teacher": "the teacher, on many labels",
    "distill": "distilling the student, without labels",
    "distilled": "the distilled student, on few labels",
    "scratch": "the same student from scratch, on few labels",
    "random": "a head on frozen random weights, on few labels",
    "all_labels": "the student from scratch, on the labels of the teacher",
}
MINUTES = "6 to 12"
KEPT = {RunState.FINISHED: "there already", RunState.INTERRUPTED: "goes on"}
_Command = tuple[str, list[str]]  # a title and the words of `distill`
_OWN_END = 15.0  # seconds, for storing the state of a training
GOOD_TEACHER = 0.45  # box AP50


def run_demo(folder: Path, seed: int, fresh: bool = False) -> Comparison:
    """Runs all stages that are not there already.

    Args:
        folder: Where everything is written: data/, a folder for each of `RUNS`, and compare/ with the comparison.
        seed: Of scenes, weights and order.
        fresh: Whether the runs of an earlier demo in the folder are removed first.

    Returns:
        The comparison of the runs, with times that were taken for it, in turns.

    Raises:
        UserError: A training failed.
        Stopped: The user stopped it; the same call goes on.
    """
    try:
        return _run(folder, seed, fresh)
    except (KeyboardInterrupt, Stopped):
        words = ["--dir", str(folder), *(["--seed", str(seed)] if seed else [])]
        raise Stopped(f"stopped; go on with: distill demo {shlex.join(words)}") from None


def _run(folder: Path, seed: int, fresh: bool) -> Comparison:
    lines = line_console()
    runs = {name: RunFolder(folder / name) for name in RUNS}
    data, log = folder / "data", folder / "scratch.log"
    for name in FILES:  # of an earlier demo, whose teacher may be replaced
        (page(folder).parent / name).unlink(missing_ok=True)
    if fresh:
        for run in runs.values():
            remove(run)
    lines.print(
        f"{len(RUNS)} trainings and a comparison, {MINUTES} minutes on 2 CPU cores. Trainings 1 to {len(SHOWN)} "
        f"are shown; {len(SHOWN) + 1} to {len(RUNS)} run beside them, and their log is {log}",
    )
    _draw(data, seed)
    fits = _fits(runs, data, folder, seed)
    found = states(runs, fits, NEEDS)
    for name, state in found.items():
        if state is not RunState.FRESH:
            lines.print(f"{KEPT[state]}: {runs[name]}")
    lists = [_commands(names, runs, fits, found) for names in (HIDDEN, SHOWN)]
    if any(lists):
        for where, commands in zip((f" > {log}", ""), lists, strict=True):
            if commands:
                _title(_as_one(commands) + where)
        folder.mkdir(parents=True, exist_ok=True)
        _side_by_side(lists[0], log, lists[1])
    _probe(runs, data)
    # Timed anew: the run folders' own times were taken while two trainings shared the cores.
    _title(f"distill compare {' '.join(str(run) for run in runs.values())} --measure")
    return compare([run.path for run in runs.values()], out=page(folder).parent, measure=True)


def _title(text: str) -> None:
    """A line above what a stage prints, whole in any width."""
    line_console().print(f"\n{text}", style="bold")


def _as_one(commands: Sequence[_Command]) -> str:
    """The trainings of a list, or its tests where all is trained, as one line."""
    verb = commands[0][1][0]
    return f"distill {verb} {', '.join(what for _, (first, what, *_) in commands if first == verb)}"


def _draw(data: Path, seed: int) -> None:
    """Writes the scenes of all splits that are not there with the same seed and counts."""
    total = sum(SCENES.values())
    drawn = 0

    with phase(f"drawing {total:,} scenes, seed {seed}, into {data}", total) as advance:

        def count(number: int) -> None:
            nonlocal drawn
            drawn += number
            advance(number)

        for split, scenes in SCENES.items():
            before = drawn
            write_scenes(data, split, scenes, IMAGE_SIZE, seed, split != "unlabelled", count)
            if drawn == before:
                advance(scenes)
    if drawn < total:
        line_console().print(f"there already: {total - drawn:,} scenes of seed {seed}")


def _fits(runs: dict[str, RunFolder], data: Path, folder: Path, seed: int) -> dict[str, list[str]]:
    """Recipe and overrides of each run; each run after the one whose weights it starts from."""
    precision = {"trainer.precision": _precision()}
    few, many = _labelled(data, "labelled"), _labelled(data, "teacher")
    unlabelled = {"data.root": data / "unlabelled" / "images", "model.teacher.checkpoint": runs["teacher"].student}
    settings: dict[str, dict[str, object]] = {
        "teacher": {**many, **precision},
        "distill": {**unlabelled, **precision},
        "random": {**few},
        "scratch": {**few},
        "distilled": {**few, "model.student.checkpoint": runs["distill"].student},
        "all_labels": {**many},
    }
    return {
        name: [
            f"demo/{name}",
            *api.as_words(
                {"run.dir": runs[name].path, "run.experiment": folder.name, "seed_everything": seed, **settings[name]}
            ),
        ]
        for name in RUNS
    }


def _commands(
    names: Sequence[str], runs: dict[str, RunFolder], fits: dict[str, list[str]], found: dict[str, RunState]
) -> list[_Command]:
    """The commands of one list: what is not finished is trained, or goes on; what has no scores is tested."""
    ways = {RunState.FRESH: "--run.overwrite=true", RunState.INTERRUPTED: "--ckpt_path=last"}
    fitted = [
        (
            f"training {NUMBERED.index(name) + 1} of {len(NUMBERED)}: {WHAT[name]}",
            ["fit", *fits[name], ways[found[name]]],
        )
        for name in names
        if found[name] in ways
    ]
    tested = [
        (f"scoring {name}", ["test", str(runs[name])])
        for name in names
        if name != "distill" and not (found[name] is RunState.FINISHED and is_scored(runs[name]))
    ]
    return [*fitted, *tested]


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


def _side_by_side(hidden: Sequence[_Command], log: Path, shown: Sequence[_Command]) -> None:
    """Runs two lists of commands of `distill` at once, each in one process, the output of the first in a file.

    Each on half the cores: a second core helps a step of a small model little, so this takes much less time than one
    list.

    Raises:
        UserError: A command failed; the other list is stopped.
        Stopped: The user stopped a command; the other list is, too.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // 2))}
    running: list[subprocess.Popen[bytes]] = []

    def run(commands: Sequence[_Command], out: IO[str] | None, where: str) -> None:
        words = [sys.executable, "-u", "-m", "distill.cli.several", json.dumps(commands)]
        process = subprocess.Popen(words, stdout=out, stderr=out and subprocess.STDOUT, env=environment)
        running.append(process)
        code = process.wait()
        if code == Stopped.code:
            raise Stopped
        if code:
            raise UserError(f"a training or a test ended with exit code {code}; {where} say which and why")

    with log.open("w", encoding="utf-8") as file, ThreadPoolExecutor(2) as pool:
        try:
            hidden_lane = pool.submit(run, hidden, file, f"the last lines of {log}")
            for lane in as_completed([hidden_lane, pool.submit(run, shown, None, "the lines above")]):
                lane.result()
        except (KeyboardInterrupt, Stopped):
            for process in running:
                _let_stop(process)
            raise
        finally:
            for process in running:
                process.kill()


def _let_stop(process: subprocess.Popen[bytes]) -> None:
    """Gives a list of commands the time to store its training state.

    Ctrl-C of a terminal reaches it, too. Where only this process was signalled, it is asked to stop.
    """
    try:
        process.wait(_OWN_END)
    except subprocess.TimeoutExpired:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_OWN_END)
