"""card.md: what a run was made of, where its weights came from, and its last scores, for people.

Read off the files of the run folder, so that `distill test` writes it again with what it found.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.evaluation.metrics import COSTS
from distill.evaluation.units import counted, percent, shown
from distill.files import write_text
from distill.report.metric_names import MetricName
from distill.runs.folder import RunFolder
from distill.runs.teacher_weights import weights_of_teacher

NO_TEST_FILES = "no test files: scored on the validation images"

# What the card calls the facts of `distill.runs.metadata`; costs are the student's for one image.
_NAMES = {
    "init": "initialisation",
    "init_teacher": "teacher of the initial weights",
    "init_teacher_weights": "weights of that teacher",
    "teacher_weights": "weights of the teacher",
    "teacher_digest": "digest of the teacher's weights",
    "teacher_params": "parameters of the teacher",
    "teacher_macs": "multiply-adds of the teacher",
    "teachers": "all teachers",
    "teachers_params": "parameters of all teachers",
    "teachers_macs": "multiply-adds of all teachers",
    "image_size": "side of an image, px",
    "image_side": "longer side of the training images, px",
    "largest_side": "longest side of a training image, px",
    "object_side": "longer side of objects, px, 98th percentile",
    "gsd": "side of a pixel on the ground, m",
    "batch_size": "images in a batch",
    "lr": "learning rate",
    "val_image_set": "validation images and labels, digest",
    "last_map": "last map of student.safetensors",
    **{key: f"{cost.name} of the student" for key, cost in COSTS.items()},
    "train_hours": COSTS["train_hours"].name,
}


def write_card(folder: RunFolder, use: str) -> None:
    """Writes `card.md` from summary.json, recipe.yaml and, where the run was tested, test.json.

    Args:
        folder: The run folder.
        use: Lines of Python that load the student.
    """
    write_text(folder.card, card(folder, use))


def card(folder: RunFolder, use: str) -> str:
    """The card's Markdown."""
    facts, metrics = folder.read_summary()
    steps = facts.pop("steps")
    recipe = folder.read_recipe()
    rows = fact_rows(facts)
    rows |= origins(recipe) | {"optimizer steps": f"{steps:,}"}
    validated = {key: value for key, value in metrics.items() if key.startswith("val/")}
    switched_off = recipe["trainer"].get("limit_val_batches") == 0
    none = "none was run: `trainer.limit_val_batches` is 0" if switched_off else "none was run"
    sections = [
        f"# {folder.path.resolve().name}\n\n{table(('', ''), {key: [value] for key, value in rows.items()})}",
        f"## Last validation\n\n{score_tables(validated) if validated else none}",
    ]
    if folder.scores("test").is_file():
        facts = folder.read_facts("test")
        what = f"{scored(facts)}; {NO_TEST_FILES}" if without_test_files(facts) else scored(facts)
        picture = folder.figure("test", "predictions")
        pictured = f"\n\n![Labels and predictions]({picture.name})" if picture.is_file() else ""
        sections.append(f"## Test\n\n{what}\n\n{score_tables(folder.read_scores('test'))}{pictured}")
    sections.append(f"## Use\n\n```python\n{use}\n```")
    sections.append(
        "Everything that determined the run is in `recipe.yaml`; versions and hardware are in `environment.json`."
    )
    return "\n\n".join(sections) + "\n"


def fact_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a summary by what the card calls them, with their units."""
    return {_NAMES.get(key, key): _readable(key, value) for key, value in facts.items()}


def scored(facts: Mapping[str, Any]) -> str:
    """A line on what was scored: checkpoint, step, images, and settings that differ from the run's."""
    said = [str(facts["checkpoint"]), f"step {facts['step']:,}"]
    if "images" in facts:
        said.append(counted(facts["images"], "image"))
    if "tile" in facts:
        said.append(f"tiles of {facts['tile']} px that overlap by {facts['tile_overlap']} px")
    if "image_set" in facts:
        said.append(f"image set {facts['image_set']}")
    changed = [f"{key.replace('.init_args', '')} {value}" for key, value in (facts.get("overrides") or {}).items()]
    return ", ".join(said) + (f"; scored with {', '.join(changed)}" if changed else "")


def without_test_files(facts: Mapping[str, Any]) -> bool:
    """Whether the facts of a test say that it scored the validation images, since the data has no test files."""
    return facts.get("split") == "val"


def origins(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Where the weights of student and teacher came from."""
    arguments = recipe["model"].get("init_args") or {}
    found = {}
    if arguments.get("student"):
        own = arguments["student"].get("init_args") or {}
        found["initial weights of the student"] = own.get("checkpoint") or "random"
    if arguments.get("teacher"):
        found["weights of the teacher"] = weights_of_teacher(arguments["teacher"])
    return found


def score_tables(scores: Mapping[str, float | None]) -> str:
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
    tables = [table(["metric", "value"], single)] if single else []
    for heading, rows in (("%", kinds), ("class, %", classes)):
        if rows:
            columns = dict.fromkeys(column for row in rows.values() for column in row)  # probes have not all the same
            cells = {key: [row.get(column, "") for column in columns] for key, row in rows.items()}
            tables.append(table([heading, *columns], cells))
    return "\n\n".join(tables)


def table(header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Rows by what stands in their first column, as Markdown."""
    lines = [header, ["---"] * len(header), *([key, *row] for key, row in rows.items())]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _readable(key: str, value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    kind = key.removeprefix("teacher_").removeprefix("teachers_")
    if kind == "params":
        return f"{value:,}"
    if cost := COSTS.get(kind):
        return f"{value / cost.scale:.{cost.digits}f} {cost.unit}"
    return str(value)
