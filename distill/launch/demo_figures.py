"""The pictures of the demo: predictions, curves and features of teacher and students."""

import json
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name

import torch

from distill.data.images import read_image
from distill.report.comparison_figures import curves_figure, features_figure, predictions_figure
from distill.report.figures import save
from distill.runs.folder import RunFolder
from distill.weights import load_student

PICTURES = ("predictions.png", "curves.png", "features.png")
_SHOWN = 4  # images


def draw(folder: Path, test: Path, runs: Mapping[str, RunFolder]) -> None:
    """Writes the pictures.

    Args:
        folder: Where they go.
        test: The test split, with images/ and annotations.json.
        runs: The demo's runs by name.
    """
    annotations = test / "annotations.json"
    truth = json.loads(annotations.read_text(encoding="utf-8"))
    shown = [record["id"] for record in truth["images"][:_SHOWN]]
    results = {name: runs[name].predictions("test") for name in ("teacher", "scratch", "distilled")}
    predictions, curves, features = (folder / name for name in PICTURES)
    save(predictions_figure(test / "images", annotations, results, shown), predictions)
    students = {name: runs[name] for name in ("scratch", "distilled")}
    save(curves_figure(runs["distill"], students), curves)
    files = {record["id"]: record["file_name"] for record in truth["images"]}
    images = torch.stack([read_image(test / "images" / files[i]) for i in shown]).float() / 255
    with torch.no_grad():
        weights = runs["teacher"].student
        name = load_student(weights).init_args["name"]  # type: ignore[index]
        # By name, because `distill` does not depend on components.
        teacher = resolve_name("teachers.ViT")(name, checkpoint=str(weights))
        student = load_student(runs["distill"].student)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (student.mean, student.std))
        maps = {"teacher": teacher(images)["embedding"], "distilled student": student((images - mean) / std)[-1]}
    save(features_figure(images, maps), features)
