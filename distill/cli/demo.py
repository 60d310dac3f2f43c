"""`distill demo`: a teacher, its distilled student and the same student from scratch on synthetic scenes, compared.

Every stage is an ordinary recipe under recipes/demo/, run by the same command a user types.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console

from distill.data.images import read_image
from distill.errors import UserError
from distill.evaluation.cost import measure_latency
from distill.files import write_text
from distill.launch import run as runner
from distill.report import comparison
from distill.report.comparison_figures import curves_figure, features_figure, predictions_figure
from distill.report.figures import save
from distill.synthetic.scenes import write_scenes
from distill.weights import load_student

IMAGE_SIZE = 128
# Few labels, many images: the situation distillation is for. The teacher alone sees the large labelled set.
SCENES = {"teacher": 640, "unlabelled": 960, "labelled": 16, "validation": 32, "test": 96}
SHOWN = 4
PICTURES = ("predictions.png", "curves.png", "features.png")


def run(words: list[str]) -> None:
    """Runs `distill demo [--dir FOLDER] [--seed N]`."""
    parser = argparse.ArgumentParser("distill demo", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/demo"), help="where everything is written")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes, weights and order")
    arguments = parser.parse_args(words[1:])
    compare(arguments.dir, arguments.seed)


def compare(folder: Path, seed: int) -> list[comparison.Row]:
    """Runs all stages into `folder` and returns the table's rows: teacher, scratch, distilled."""
    console = Console(soft_wrap=True, highlight=False)
    start = time.perf_counter()
    console.rule(f"scenes, seed {seed}")
    data = folder / "data"
    for split, count in SCENES.items():
        write_scenes(data, split, count, IMAGE_SIZE, seed, labelled=split != "unlabelled")
    console.print(f"wrote {sum(SCENES.values())} scenes to {data}")

    def fit(name: str, *overrides: str) -> list[str]:
        place = [f"--run.dir={folder / name}", "--run.overwrite=true", f"--run.experiment={folder.name}"]
        return ["fit", f"demo/{name}", *place, f"--seed_everything={seed}", *overrides]

    def labelled(split: str) -> list[str]:
        sources = {"train": split, "val": "validation", "test": "test"}
        return [
            argument
            for key, source in sources.items()
            for argument in (
                f"--data.{key}_images={data}/{source}/images",
                f"--data.{key}_annotations={data}/{source}/annotations.json",
            )
        ]

    teacher = f"{folder}/teacher/student.safetensors"
    student = f"{folder}/distill/student.safetensors"
    console.rule("distill fit recipes/demo/teacher.yaml")
    runner.run(fit("teacher", *labelled("teacher")))
    for name in ("table.md", *PICTURES):  # of an earlier demo, whose teacher is gone by now
        (folder / name).unlink(missing_ok=True)
    console.rule("distill fit recipes/demo/distill.yaml")
    runner.run(fit("distill", f"--data.root={data}/unlabelled/images", f"--model.teacher.checkpoint={teacher}"))
    log = folder / "scratch.log"
    console.rule(f"distill fit recipes/demo/scratch.yaml > {log} & distill fit recipes/demo/distilled.yaml")
    _side_by_side(
        fit("scratch", *labelled("labelled")),
        log,
        fit("distilled", *labelled("labelled"), f"--model.student.checkpoint={student}"),
    )
    folders = {name: folder / name for name in ("teacher", "scratch", "distilled")}
    for path in folders.values():
        console.rule(f"distill test {path}")
        runner.run(["test", str(path)])
    # The run folders' own latencies were taken while two trainings shared the cores.
    rows = [
        replace(row, latency_ms=measure_latency(load_student(folders[row.name] / "student.safetensors"), IMAGE_SIZE))
        for row in comparison.read_rows(folders)
    ]
    _draw(folder, data / "test", folders)
    write_text(folder / "table.md", comparison.markdown_table(rows))
    console.rule()
    title = f"{SCENES['test']} scenes that no model saw; {SCENES['labelled']} labelled scenes for the two students"
    console.print(comparison.rich_table(rows, title))
    pictures = ", ".join(sorted(path.name for path in folder.glob("*.png")))
    console.print(f"Wrote {folder}/: table.md, {pictures}. Took {time.perf_counter() - start:.0f} s.")
    for title, command in next_commands(folder):
        console.print(f"{title}:\n  {command}", markup=False)
    return rows


def next_commands(folder: Path) -> list[tuple[str, str]]:
    """What to type after the demo, and what for: first what needs nothing but the demo's own results.

    Args:
        folder: Where the demo was written.
    """

    def path(*parts: str) -> str:
        return shlex.quote(str(folder.joinpath(*parts)))

    teacher = path("teacher", "student.safetensors")
    sam = "--model.teacher.checkpoint sam_vit_b_01ec64.pth"
    recipe = "rs4d_small" if torch.cuda.is_available() else "rs4d_tiny_cpu"
    return [
        ("Next, score the distilled student again", f"distill test {path('distilled')}"),
        (
            "Train it for twice as long",
            f"distill fit {path('distilled', 'recipe.yaml')} --run.dir {path('longer')} --trainer.max_steps 1600",
        ),
        (
            "Distil the demo's teacher on your own images",
            f"distill fit recipes/demo/distill.yaml --run.dir {path('mine')} --data.root YOUR_IMAGES "
            f"--model.teacher.checkpoint {teacher}",
        ),
        (
            "Distil SAM, whose weights the README of segment-anything offers",
            f"distill fit recipes/{recipe}.yaml --data.root YOUR_IMAGES {sam}",
        ),
    ]


def _side_by_side(hidden: list[str], log: Path, shown: list[str]) -> None:
    """Runs two commands at once, the output of the first in a file.

    Each on half the cores: steps of a small model leave most of a second core idle, so two trainings at once take much
    less than twice the time of one.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // 2))}
    distill = [sys.executable, "-m", "distill"]
    with log.open("w", encoding="utf-8") as file:
        other = subprocess.Popen([*distill, *hidden], stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            code = subprocess.run([*distill, *shown], env=environment).returncode
            if code == 0:
                code = other.wait()
        finally:
            other.kill()
            other.wait()
    if code != 0:
        raise UserError(f"fine-tuning a student ended with exit code {code}; {log} and the lines above say why")


def _draw(folder: Path, test: Path, folders: dict[str, Path]) -> None:
    annotations = test / "annotations.json"
    truth = json.loads(annotations.read_text(encoding="utf-8"))
    shown = [record["id"] for record in truth["images"][:SHOWN]]
    results = {name: path / "test_predictions.json" for name, path in folders.items()}
    save(predictions_figure(test / "images", annotations, results, shown), folder / "predictions.png")
    twins = {name: folders[name] for name in ("scratch", "distilled")}
    save(curves_figure(folder / "distill", twins), folder / "curves.png")
    files = {record["id"]: record["file_name"] for record in truth["images"]}
    images = torch.stack([read_image(test / "images" / files[i]) for i in shown]).float() / 255
    with torch.no_grad():
        teacher_weights = folder / "teacher" / "student.safetensors"
        name = load_student(teacher_weights).init_args["name"]  # type: ignore[index]
        # By name, because `distill` knows contracts, not components.
        teacher = import_module("teachers").ViT(name, checkpoint=str(teacher_weights))
        student = load_student(folder / "distill" / "student.safetensors")
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (student.mean, student.std))
        maps = {"teacher": teacher(images)["embedding"], "distilled student": student((images - mean) / std)[-1]}
    save(features_figure(images, maps), folder / "features.png")
