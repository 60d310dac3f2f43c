"""card.md: what a run was made of, where its weights came from, and its last scores, for people.

Read off the files of the run folder, so that `distill test` writes it again with what it found.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.evaluation.units import counted, percent, shown
from distill.files import write_text
from distill.report.metric_names import MetricName

# What the card calls the facts of `distill.runs.metadata`; costs are the student's for one image.
_NAMES = {
    "teacher_digest": "digest of the teacher's weights",
    "image_size": "side of an image, px",
    "params": "parameters of the student",
    "macs": "multiply-adds of the student",
    "cpu_latency_ms": "time of the student on the CPU, ms",
    "last_map": "last map of student.safetensors",
}


def write_card(folder: Path, use: str) -> None:
    """Writes `card.md` from summary.json, recipe.yaml and, where the run was tested, test.json.

    Args:
        folder: The run folder.
        use: Lines of Python that load the student.
    """
    write_text(folder / "card.md", card(folder, use))


def card(folder: Path, use: str) -> str:
    """The card's Markdown."""
    summary = _read(folder / "summary.json")
    facts = {key: value for key, value in summary.items() if key.isidentifier()}  # not learning rates of older runs
    steps = facts.pop("steps")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    rows = {_NAMES.get(key, key): _readable(key, value) for key, value in facts.items()}
    rows |= origins(recipe) | {"optimizer steps": f"{steps:,}"}
    validated = {key: value for key, value in summary.items() if key.startswith("val/")}
    switched_off = recipe["trainer"].get("limit_val_batches") == 0
    none = "none was run: `trainer.limit_val_batches` is 0" if switched_off else "none was run"
    sections = [
        f"# {folder.resolve().name}\n\n{_table(('', ''), {key: [value] for key, value in rows.items()})}",
        f"## Last validation\n\n{_scores(validated) if validated else none}",
    ]
    if (folder / "test.json").is_file():
        scored = _read(folder / "test_facts.json")
        images = f", {counted(scored['images'], 'image')}" if "images" in scored else ""
        what = f"`{scored['checkpoint']}`, step {scored['step']:,}{images}"
        picture = "\n\n![Labels and predictions](test_predictions.png)"
        pictured = picture if (folder / "test_predictions.png").is_file() else ""
        sections.append(f"## Test\n\n{what}\n\n{_scores(_read(folder / 'test.json'))}{pictured}")
    sections.append(f"## Use\n\n```python\n{use}\n```")
    sections.append(
        "Everything that determined the run is in `recipe.yaml`; versions and hardware are in `environment.json`."
    )
    return "\n\n".join(sections) + "\n"


def origins(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Where the weights of student and teacher came from."""
    arguments = recipe["model"].get("init_args") or {}
    found = {}
    for part, title in (("student", "initial weights of the student"), ("teacher", "weights of the teacher")):
        if arguments.get(part):
            own = arguments[part].get("init_args") or {}
            published = part == "teacher" and own.get("pretrained", True)
            found[title] = own.get("checkpoint") or (f"published, {own.get('name')}" if published else "random")
    return found


def _scores(scores: Mapping[str, float | None]) -> str:
    """Scores as tables: those of no class, those of each kind of average precision, and those of each class."""
    single: dict[str, list[str]] = {}
    kinds: dict[str, dict[str, str]] = {}
    classes: dict[str, dict[str, str]] = {}
    for key, value in scores.items():
        name = MetricName.parse(key)
        if name.of_class:
            measure = f"{name.kind} {name.measure}".strip()
            classes.setdefault(name.of_class, {})[measure] = percent(value)
        elif name.kind:
            kinds.setdefault(name.kind, {})[name.measure] = percent(value)
        else:
            single[name.measure] = [shown(key, value)]
    tables = [_table(["metric", "value"], single)] if single else []
    for heading, rows in (("%", kinds), ("class, %", classes)):
        if rows:
            columns = list(next(iter(rows.values())))
            tables.append(_table([heading, *columns], {key: list(row.values()) for key, row in rows.items()}))
    return "\n\n".join(tables)


def _table(header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([key, *row] for key, row in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _readable(key: str, value: object) -> str:
    if key == "params" and isinstance(value, int):
        return f"{value:,}"
    if key == "macs" and isinstance(value, int):
        return f"{value / 1e9:.2f} G"
    return str(value)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
