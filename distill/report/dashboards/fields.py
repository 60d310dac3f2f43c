"""Everything that W&B gets of a run, and its names; read from the run folder, without W&B and PyTorch.

Live logging, offline runs and the check of panels read this. Names of the config and the summary have letters, digits
and underscores only, as W&B sorts and filters by no others. No name of the summary is that of a logged metric, whose
next value would replace it.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.evaluation.metrics import METRICS, bare, is_probe, metric_of
from distill.evaluation.units import UNDEFINED
from distill.files import read_csv
from distill.report.dashboards.identity import digest, id_of, with_known_facts
from distill.report.pictures.stored import PREDICTIONS, PictureSet, read_pictures
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder

STEP = "trainer/global_step"  # the horizontal axis
CLASSES = "test_classes"  # the table of the scores of each class
_NAMES = ("kind", "class")  # columns of it that hold names, which may look like numbers
_STAGES = {"validate": "val", "test": "test"}  # how names of their scores begin


@dataclass(frozen=True)
class Identity:
    """A run as W&B lists it.

    Attributes:
        id: Digits that no other run has.
        name: Student, initialisation and seed.
        group: The experiment, in which W&B compares runs.
        job_type: "distil" or "fine-tune"; "test" for a run of which W&B has seen nothing but its scores.
        tags: Student and data set.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """The names that some runs log.

    Attributes:
        config: Keys of the config.
        summary: Keys of the summary, tables among them.
        history: Metrics by step.
        media: Keys of lists of images.
    """

    config: frozenset[str]
    summary: frozenset[str]
    history: frozenset[str]
    media: frozenset[str]


def logged_names(records: Sequence[RunRecord]) -> Names:
    """The names under which the runs log anything."""
    return Names(
        config=frozenset(key for record in records for key in config_of(record)),
        summary=frozenset(key for record in records for key in summary_of(record))
        | {CLASSES for record in records if class_table(record)},
        history=frozenset(key for record in records for key in map(renamed, _table(record.folder.metrics)[0])) | {STEP},
        media=frozenset(key for one in records for shown in read_pictures(one.folder) for key in media_of(shown)),
    )


def identity_of(record: RunRecord) -> Identity:
    """The identity of a run at W&B."""
    record = with_known_facts(record)
    return Identity(
        id=id_of(record),
        name=f"{record.student} · {record.init} · seed {record.seed}",
        group=(record.recipe.get("run") or {}).get("experiment") or record.folder.path.resolve().name,
        job_type="distil" if record.task == "distillation" else "fine-tune",
        tags=(record.student, record.data),
    )


def config_of(record: RunRecord) -> dict[str, Any]:
    """The config of a run at W&B: its parts and its training; unknown values are left out."""
    record = with_known_facts(record)
    facts, student, data = record.facts, record.component("student"), record.recipe["data"].get("init_args") or {}
    model = record.recipe["model"].get("init_args") or {}
    named = [record.student, record.init, record.head, record.data]
    config = {
        "model": " · ".join(name for name in named if name),  # what runs over seeds have in common
        "student": record.student,
        "student_class": student.get("class_path"),
        "variant": facts.get("variant") or (student.get("init_args") or {}).get("variant"),
        "init": record.init,
        "teacher": record.teacher,
        "teacher_digest": facts.get("teacher_digest"),
        "target": model.get("target"),
        "dataset": record.data,
        "task": record.task,
        "head": record.head,
        "seed": record.seed,
        "image_size": facts.get("image_size") or data.get("image_size"),
        "batch_size": facts.get("batch_size") or data.get("batch_size"),
        "lr": facts.get("lr") or (model.get("optim") or {}).get("lr"),
        "loss": _loss(model.get("loss") or {}),
        "corruption": _corruption(model.get("corruption") or {}),
        "recipe": _recipe_digest(record.recipe),
        "git": record.environment.get("git"),
    }
    return {key: value for key, value in config.items() if value is not None}


def summary_of(record: RunRecord) -> dict[str, float]:
    """The summary of a run at W&B.

    Costs are `cost_*`, scores `test_*` and `val_*`, and `best_*` is the best validation during the fit.
    """
    record = with_known_facts(record)
    values: dict[str, float | None] = {f"cost_{key}": value for key, value in record.costs.items()}
    for stage, split in _STAGES.items():
        values |= {f"{split}/{name}": value for name, value in record.scores(stage).items()}
    values |= {f"best/{name}": value for name, value in _best(record.folder).items()}
    return {re.sub(r"\W", "_", k): v for k, v in values.items() if v is not None and math.isfinite(v)}


def history_of(folder: RunFolder) -> Iterator[dict[str, float]]:
    """The rows of metrics.csv as W&B has them, without empty cells; the last may be one that was never completed."""
    header, *rows = _table(folder.metrics)
    names = [renamed(column) for column in header]
    for row in rows:
        cells = {name: _cell(text) for name, text in zip(names, row, strict=False) if text}
        yield {name: value for name, value in cells.items() if isinstance(value, int | float)}


def renamed(column: str) -> str:
    """The name at W&B of a column of metrics.csv: learning rates are `lr/<group>`, the step is the horizontal axis."""
    if column == "step":
        return STEP
    return re.sub(r"^lr-([^/]*/)?", "lr/", column)


def media_of(pictures: PictureSet) -> dict[str, list[tuple[Path, str]]]:
    """Image files and captions by key: `maps/<image>` of a distillation, else `predictions/<image>`.

    The key of an image is the same in all runs and at all steps, so that W&B shows runs side by side.
    """
    found: dict[str, list[tuple[Path, str]]] = {}
    for picture in pictures.pictures:
        kind = "predictions" if picture.parts.keys() <= set(PREDICTIONS) else "maps"
        name = re.sub(r"[^\w/-]", "_", str(Path(picture.name).with_suffix("")))  # a dot would be a level of nesting
        for part, path in picture.parts.items():
            if not path.is_file():
                continue
            said = picture.captions.get(part)
            found.setdefault(f"{kind}/{name}", []).append((path, f"{part}: {said}" if said else part))
    return found


def class_table(record: RunRecord) -> tuple[list[str], list[list[str | float | None]]] | None:
    """Columns and rows of the scores of each class in a test; None for a run without them."""
    columns, *rows = _table(record.folder.class_scores("test"))
    cells = [
        [text if column in _NAMES else _cell(text) for column, text in zip(columns, row, strict=True)] for row in rows
    ]
    return (columns, cells) if columns else None


def _table(path: Path) -> list[list[str]]:
    """The rows of a CSV file, its header first; an empty header where there is no file."""
    return (read_csv(path) if path.is_file() else []) or [[]]


def _best(folder: RunFolder) -> dict[str, float]:
    """The best validation of each metric that says which values are better, by its name without the split."""
    choices = {"max": max, "min": min}
    found: dict[str, float] = {}
    for row in history_of(folder):
        for full, value in row.items():
            name = bare(full)
            better = metric_of(name).better if full.startswith("val/") and (name in METRICS or is_probe(name)) else None
            if better is not None and not math.isnan(value):
                found[name] = choices[better](value, found.get(name, value))
    return found


def _loss(settings: Mapping[str, Any]) -> str | None:
    """The terms of a loss: "l1 + cosine"; a weight other than 1 is said."""
    terms = settings.get("terms") or {}
    words = (name if weight == 1 else f"{weight:g} {name}" for name, weight in terms.items())
    return " + ".join(words) or None


def _corruption(settings: Mapping[str, Any]) -> str | None:
    """What is done to the student's input: "noise 0.2, mask 0.2, adaptive, token, mask_shape block"."""
    if not settings:
        return None
    words = [f"{key} {settings[key]:g}" for key in ("noise", "mask") if key in settings]
    words += [str(settings[key]) for key in ("control", "level") if key in settings]
    usual = {"noise_scale": "token", "mask_shape": "token", "guide": "none"}
    return ", ".join(
        [*words, *(f"{key} {settings[key]}" for key in usual if settings.get(key, usual[key]) != usual[key])]
    )


def _recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Digits that runs share whose recipes differ in nothing but seed, run folder and paths."""
    shared = {key: value for key, value in recipe.items() if key not in ("run", "seed_everything")}
    data = recipe["data"]
    return digest({**shared, "data": {**data, "init_args": {**(data.get("init_args") or {}), "seed": None}}})


def _cell(text: str) -> float | None:
    """A score in a CSV file; None where it is not defined."""
    if text == UNDEFINED:
        return None
    return int(text) if text.isdigit() else float(text)
