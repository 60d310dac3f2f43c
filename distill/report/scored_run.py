"""What `distill test` and `distill validate` print and write: scores, what exactly was scored, tables and plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distill.evaluation.coco import summarise
from distill.report.run_folder import write_json
from distill.report.scoring import write_details
from distill.report.segmentation_scoring import write_pixel_details


def report_scores(
    folder: Path, stage: str, model: Any, logged: Mapping[str, float], facts: Mapping[str, object]
) -> None:
    """Prints the scores of a run and writes them into its folder.

    Args:
        folder: The run folder.
        stage: "test" or "validate".
        model: The module that was scored.
        logged: Its metrics, which Lightning rounds to float32; the files hold the evaluation's own digits.
        facts: What was scored: checkpoint, its step, and settings that scores depend on.
    """
    confusion, evaluator = getattr(model, "confusion", None), getattr(model, "evaluator", None)
    exact = confusion.summary() if confusion is not None else summarise(getattr(model, "scores", {}))
    metrics = {key: exact.get(key.partition("/")[2], value) for key, value in logged.items()}
    write_json(folder / f"{stage}.json", metrics)
    facts, details, images = dict(facts), [f"{stage}_facts.json"], ""
    if evaluator is not None:
        facts |= {"images": len(evaluator.seen()), "max_detections": evaluator.max_detections}
        images = f", {facts['images']} images"
        write_json(folder / f"{stage}_predictions.json", evaluator.results())
        details += [f"{stage}_predictions.json", *write_details(folder, stage, evaluator, model.scores)]
    elif confusion is not None:
        details += write_pixel_details(folder, stage, confusion)
    write_json(folder / f"{stage}_facts.json", facts)
    title = f"{folder} ({stage}: {facts['checkpoint']}, step {facts['step']}{images})"
    table = Table("metric", "value", title=title)
    for key, value in metrics.items():
        table.add_row(key.partition("/")[2], f"{value:.4f}")
    Console().print(table)
    print(f"Wrote {folder}/: {', '.join([f'{stage}.json', *details])}")
