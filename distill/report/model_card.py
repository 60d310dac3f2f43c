"""README.md of a shared model, in the form that the Hugging Face Hub shows.

Read off the files of the run folder. What is not known is said to be unknown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.evaluation.metrics import COSTS
from distill.evaluation.units import counted
from distill.report.card import NO_TEST_FILES, fact_rows, score_tables, scored, table, without_test_files
from distill.report.metric_names import MetricName
from distill.runs.folder import RunFolder
from distill.runs.places import without_places
from distill.runs.teacher_weights import RANDOM

_TASKS = {"instances": "instance segmentation", "segmentation": "semantic segmentation"}
_DATA = ("data", "image_size", "image_side", "largest_side", "object_side", "gsd", "val_image_set")
_STAGES = {"test": "Test", "validate": "Validation"}  # the better evidence first


def model_card(
    run: RunFolder,
    task_name: str,
    class_names: Sequence[str],
    teachers: Mapping[str, str],
    address: str,
    licence: str | None,
    exported: Sequence[str] = (),
) -> str:
    """The card's Markdown, with metadata in YAML before it.

    Args:
        run: The run folder.
        task_name: The name of its task.
        class_names: In label order; none of a student.
        teachers: What is known of the licence of the weights of each teacher, by its label.
        address: What `distill.load` takes, once the model is there.
        licence: Of this model's weights, as the Hub names it; None where the user has not said.
        exported: Names of exported files beside the weights.
    """
    facts = run.read_summary()[0] if run.summary.is_file() else {}
    task = _TASKS.get(task_name, "feature maps")
    parts = " with ".join(str(facts[key]) for key in ("student", "head") if key in facts) or "a student"
    classes = f" of {counted(len(class_names), 'class', 'classes')}" if class_names else ""
    what = f"{parts}, for {task}{classes}"
    sections = [
        f"# {run.path.resolve().name}\n\n{what[0].upper()}{what[1:]} in remote-sensing images.",
        _use(address, bool(class_names), exported),
        _data(facts, class_names),
        f"## Numbers\n\n{_numbers(run)}",
        _cost(facts, run),
        _weights(facts, teachers, licence),
        _limits(facts, run),
        "## Recipe\n\nEverything that determined the training is in `recipe.yaml`; places of the machine that it ran "
        "on are left out, names of files are kept. `config.json` has class names and the facts above.",
    ]
    metadata = yaml.safe_dump(_metadata(run, task, licence, bool(class_names)), sort_keys=False, allow_unicode=True)
    return f"---\n{metadata}---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(run: RunFolder, task: str, licence: str | None, has_classes: bool) -> dict[str, Any]:
    name = run.path.resolve().name
    kind = "image-segmentation" if has_classes else "image-feature-extraction"
    content: dict[str, Any] = {"library_name": "distill", "pipeline_tag": kind}
    if licence is not None:
        content["license"] = licence
    content["tags"] = ["remote-sensing", "distillation", task.replace(" ", "-")]
    if (stage := _stage(run)) is not None:
        values = {key: value for key, value in run.read_scores(stage).items() if not MetricName.parse(key).of_class}
        metrics = [{"type": key.split("/", 1)[1], "value": value} for key, value in values.items() if value is not None]
        identity = str(run.read_facts(stage).get("image_set", "unknown"))
        result = {
            "task": {"type": kind, "name": task},
            "dataset": {"type": identity, "name": f"{stage} images", "split": stage},
            "metrics": metrics,
        }
        content["model-index"] = [{"name": name, "results": [result]}]
    return content


def _use(address: str, has_classes: bool, exported: Sequence[str]) -> str:
    code = f'import distill\n\nmodel = distill.load("{address}")\nfound = model.predict("image.tif")'
    shell = f'distill predict {address} "scenes/*.tif" --out predicted'
    text = f"## Use\n\n```python\n{code}\n```"
    if has_classes:
        text += f"\n\nImages and rasters of any size, as polygons, class maps and COCO results:\n\n```sh\n{shell}\n```"
    text += (
        "\n\nLoading runs no code of this repository: weights are safetensors, and the recipe may name only components "
    )
    text += "of distill itself."
    if exported:
        text += f"\n\nExported files: {', '.join(f'`{name}`' for name in exported)}."
    return text


def _data(facts: Mapping[str, Any], class_names: Sequence[str]) -> str:
    rows = fact_rows({key: facts[key] for key in _DATA if key in facts})
    if class_names:
        rows["classes"] = ", ".join(class_names)
    return f"## Data\n\n{table(('', ''), {key: [value] for key, value in rows.items()}) if rows else 'unknown'}"


def _stage(run: RunFolder) -> str | None:
    return next((stage for stage in _STAGES if run.scores(stage).is_file()), None)


def _numbers(run: RunFolder) -> str:
    """Scores of the test, else of the validation, else the last of the training."""
    if (stage := _stage(run)) is not None:
        facts = run.read_facts(stage)
        if facts:
            facts = {**without_places(facts), "checkpoint": Path(str(facts["checkpoint"])).name}
        what = f": {scored(facts)}" if facts else ""
        what += f"; {NO_TEST_FILES}" if without_test_files(facts) else ""
        return f"{_STAGES[stage]}{what}\n\n{score_tables(run.read_scores(stage))}"
    metrics = run.read_summary()[1] if run.summary.is_file() else {}
    validated = {key: value for key, value in metrics.items() if key.startswith("val/")}
    if not validated:
        return "None: the model has been neither validated nor tested."
    return f"Not tested. The last validation of the training:\n\n{score_tables(validated)}"


def _cost(facts: Mapping[str, Any], run: RunFolder) -> str:
    rows = fact_rows({key: facts[key] for key in COSTS if key in facts})
    cpu = run.read_environment().get("cpu", "unknown")
    shown = table(("", ""), {key: [value] for key, value in rows.items()}) if rows else "unknown"
    size = facts.get("image_size", "unknown")
    return f"## Cost\n\nOf the student alone, for one image of {size} px; processor: {cpu}.\n\n{shown}"


def _weights(facts: Mapping[str, Any], teachers: Mapping[str, str], licence: str | None) -> str:
    stated = licence or "not stated; ask who shares the model"
    start = {"scratch": "random", "distilled": "distilled from a teacher", "pretrained": "those of another training"}
    rows = {"these weights": [stated], **{f"teacher {name}": [text] for name, text in teachers.items()}}
    began = start.get(str(facts.get("init")), "unknown")
    if facts.get("init_teacher_weights") == RANDOM:
        began += " whose weights were random"
    return f"## Weights and licences\n\nThe student's initial weights: {began}.\n\n" + table(
        ("weights", "licence"), rows
    )


def _limits(facts: Mapping[str, Any], run: RunFolder) -> str:
    gsd, side = facts.get("gsd"), facts.get("object_side")
    ground = f"pixels of {gsd:g} m" if gsd else "pixels of unknown size on the ground"
    objects = f" and objects up to about {side} px" if side else ""
    lines = [
        f"Trained on {ground}{objects}; other sizes, sensors, seasons and regions have not been measured.",
        "It sees three bands of 8 bits; other values are stretched to that.",
        "Scores are not calibrated probabilities.",
    ]
    if not run.scores("test").is_file():
        lines.append("There is no score on images that played no part in the training.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)
