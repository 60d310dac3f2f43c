"""Which student under which head runs in which runtime: every pair is trained for two steps, exported and verified.

    python benchmarks/export_matrix.py                              # half an hour on one core; resumable
    python benchmarks/export_matrix.py --only RS4D-CascadeMaskRCNN
    python benchmarks/export_matrix.py --table                      # of what there is

A cell is what `distill export` says: each file is compared with its run on seven images (four sizes, one not square,
one without an object, one crowded; docs/export.md). It shows the largest difference of a score or a logit, and for
detectors the most instances of an image; "no" where there is no file, and a line below says why. Weights are untrained,
so that detectors find as much as they may, everywhere.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from studying import fit_once, on_one_thread

import distill
import heads
import students
from distill.errors import UserError
from distill.exporters.formats import ONNX, OPENVINO, PT2
from distill.exporters.verify.instances import InstanceDifference
from distill.exporters.verify.maps import LogitDifference
from distill.synthetic.scenes import write_scenes

STUDENTS = ("RS4D", "LALE", "EfficientViT", "EfficientViTSAM", "TimmStudent")
EVERYTHING: dict[str, dict[str, Any]] = {  # settings under which untrained heads find something
    "MaskRCNN": {"score_threshold": 0.0, "max_detections": 20},
    "CascadeMaskRCNN": {"score_threshold": 0.0, "max_detections": 20},
    "DenseMasks": {"threshold": 0.12, "min_area": 1},
    "RSPrompter": {"score_threshold": 0.0, "max_detections": 20},
}
DECODERS: dict[str, dict[str, Any]] = {
    "LALEDecoder": {"channels": 32},
    "SegHead": {},
    "UPerNet": {"channels": 16},
    "FPNDecoder": {"channels": 32, "segmentation_channels": 64},
}
FORMATS = (ONNX, OPENVINO, PT2)
SIDE = 128  # pixels; at 64 the coarsest map of some pyramids would have one cell, which no file takes


def write_data(root: Path) -> None:
    """Scenes with instances, and images whose bright pixels are of another class."""
    write_scenes(root, "train", 8, SIDE, seed=0)
    write_scenes(root, "test", 4, SIDE, seed=0)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / "cover" / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            pixels = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            Image.fromarray(pixels).save(root / "cover" / split / "images" / f"{number}.png")
            Image.fromarray((pixels.mean(axis=2) > 127).astype(np.uint8)).save(
                root / "cover" / split / "masks" / f"{number}.png"
            )


def recipe_of(student: str, head: str, root: Path, run: Path) -> dict[str, Any]:
    """Two steps of a pair on that data."""
    built = {"class_path": f"students.{student}", "init_args": getattr(students, student).smoke_args()}
    if head in DECODERS:
        task, arguments = "distill.SegmentationModule", DECODERS[head]
        data = {
            "class_path": "distill.data.SemanticFolder",
            "init_args": {"root": str(root / "cover"), "classes": {"dark": 0, "bright": 1}},
        }
    else:
        task, arguments = "distill.FineTuningModule", getattr(heads, head).smoke_args() | EVERYTHING[head]
        files = {
            f"{stage}_{kind}": str(root / split / name)
            for stage, split in (("train", "train"), ("val", "test"))
            for kind, name in (("images", "images"), ("annotations", "annotations.json"))
        }
        data = {"class_path": "distill.data.CocoInstances", "init_args": files}
    data["init_args"] |= {"image_size": SIDE, "batch_size": 2, "num_workers": 0}
    return {
        "seed_everything": 0,
        "model": {
            "class_path": task,
            "init_args": {
                "student": built,
                "head": {"class_path": f"heads.{head}", "init_args": arguments},
                "optim": {"lr": 1.0e-3, "warmup_steps": 1},
            },
        },
        "data": data,
        "trainer": {"max_steps": 2, "limit_val_batches": 0, "accelerator": "cpu"},
        "run": {"dir": str(run), "pictures_every": 0, "loggers": []},
    }


def cell(student: str, head: str, work: Path) -> dict[str, str]:
    """What the export of a pair says, by format."""
    folder = work / f"{student}-{head}"
    run = fit_once(recipe_of(student, head, work / "data", folder / "run"))
    try:
        written = distill.export(run, FORMATS, out=folder / "exported")
    except UserError:  # of one of them, which need not be the others' fault
        return {name: _alone(run, name, folder / "exported") for name in FORMATS}
    return {one.format: _said(one.checks) for one in written}


def _alone(run: Path, name: str, out: Path) -> str:
    try:
        return _said(distill.export(run, name, out=out)[0].checks)
    except UserError as error:
        return str(error)


def _said(checks: Any) -> str:
    found = [check.difference for check in checks]
    instances = [one for one in found if isinstance(one, InstanceDifference)]
    if instances:
        return f"{max(one.score for one in instances):.1e}, {max(one.matched for one in instances)} instances"
    return f"{max(one.logit for one in found if isinstance(one, LogitDifference)):.1e}"


def as_markdown(found: dict[tuple[str, str], dict[str, str]]) -> str:
    """A table with a row for each pair, and a line for each reason why there is no file."""
    lines = [f"| {' | '.join(('student', 'head', *FORMATS))} |", "| --- | --- |" + " ---: |" * len(FORMATS)]
    without: dict[tuple[str, str], dict[str, list[str]]] = {}
    for (student, head), said in found.items():
        cells = [said[name] if said[name][0].isdigit() else "no" for name in FORMATS]
        lines.append(f"| {' | '.join((student, head, *cells))} |")
        for name, cell in zip(FORMATS, cells, strict=True):
            if cell == "no":
                without.setdefault((head, said[name]), {}).setdefault(student, []).append(name)
    lines.append("")
    for (head, reason), students_of in without.items():
        pairs = "; ".join(f"{student} ({', '.join(names)})" for student, names in students_of.items())
        lines.append(f"- {head} on {pairs}: {reason}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/export_matrix"), help="where everything is written")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PAIR", help="beginnings of STUDENT-HEAD")
    parser.add_argument("--table", action="store_true", help="only the table of what there is")
    parser.add_argument("--run", nargs=2, metavar=("STUDENT", "HEAD"), help="one pair, in this process")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    if arguments.run:
        found = cell(*arguments.run, work)
        (work / f"{'-'.join(arguments.run)}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    if not (work / "data" / "cover").exists():
        write_data(work / "data")
    found = {}
    for head in (*EVERYTHING, *DECODERS):
        for student in STUDENTS:
            file = work / f"{student}-{head}.json"
            if not (file.exists() or arguments.table) and f"{student}-{head}".startswith(tuple(arguments.only)):
                on_one_thread(__file__, ["--work", work, "--run", student, head])
            if file.exists():
                found[student, head] = json.loads(file.read_text(encoding="utf-8"))
    print(as_markdown(found))


if __name__ == "__main__":
    main()
