"""Prints and writes the results of `distill test` and `distill validate`: scores, facts, tables and pictures."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from distill.evaluation.instances import InstanceEvaluation
from distill.evaluation.metrics import bare
from distill.evaluation.segmentation import PixelConfusion
from distill.evaluation.units import counted, shown
from distill.files import write_json
from distill.phases import line_console, phase
from distill.report.card import NO_TEST_FILES, scored, without_test_files, write_card
from distill.report.class_tables import class_table
from distill.report.detection_report import instance_tables, write_details
from distill.report.figures import save
from distill.report.pictures.stored import pictures_of
from distill.report.predictions import predictions_figure
from distill.report.segmentation_report import pixel_tables, write_pixel_details
from distill.runs.folder import RunFolder
from distill.runs.loading import loading_lines


def report_scores(
    folder: RunFolder, stage: str, model: Any, logged: Mapping[str, float], facts: Mapping[str, object]
) -> dict[str, float]:
    """Prints the scores of a run and writes them into its folder.

    Args:
        folder: The run folder.
        stage: "test" or "validate".
        model: The module that was scored.
        logged: Its metrics, which Lightning rounds to float32; the files hold the evaluation's own digits.
        facts: What was scored: checkpoint, its step, and settings that scores depend on.

    Returns:
        The metrics in the evaluation's own digits.
    """
    exact, found = model.scores(), model.evaluation
    metrics = {key: exact.get(key.partition("/")[2], value) for key, value in logged.items()}
    facts = dict(facts)
    if isinstance(found, InstanceEvaluation):
        facts |= {"images": len(found.evaluator.seen()), "max_detections": found.evaluator.max_detections}
    elif isinstance(found, PixelConfusion):
        facts |= {"images": int(found.images[-1])}
    # Before anything that may fail: scores beside the facts of an earlier test would be taken for those.
    write_json(folder.facts(stage), facts)
    write_json(folder.scores(stage), metrics)
    details, tables = [folder.facts(stage).name], [metric_table(metrics)]
    with phase("drawing predictions and tables"):
        if isinstance(found, InstanceEvaluation):
            evaluator = found.evaluator
            write_json(folder.predictions(stage), instances := evaluator.results())
            details += [folder.predictions(stage).name, *write_details(folder, stage, evaluator, found.scores)]
            tables = instance_tables(found.scores, evaluator.objects())
        elif isinstance(found, PixelConfusion):
            details += write_pixel_details(folder, stage, found)
            tables = pixel_tables(found)
        details += _pictures(folder, stage)
    if folder.summary.is_file():  # else training has not come to its end, and there is no card
        write_card(folder, loading_lines(folder, model.student))
        details.append(folder.card.name)
    console = line_console()
    console.print(f"\n{folder} ({stage}: {scored(facts)})\n")
    if without_test_files(facts):
        console.print(f"{NO_TEST_FILES}\n")
    if isinstance(found, InstanceEvaluation) and not instances:
        least = max(model.head.score_threshold, model.head.lowest_score)
        images = counted(len(found.evaluator.seen()), "image")
        line = f"The run found no object in {images} with a score of {least:g} or more; it may need more training steps"
        console.print(f"{line}.\n")
    for table in tables:
        console.print(table)
        console.print()
    console.print(f"Wrote {folder}/: {', '.join([folder.scores(stage).name, *details])}")
    return metrics


def metric_table(metrics: Mapping[str, float]) -> Table:
    """Scores that belong to no class."""
    return class_table({bare(key): [shown(key, value)] for key, value in metrics.items()}, ["value"], heading="metric")


def _pictures(folder: RunFolder, stage: str) -> list[str]:
    """Writes the figure of the pictures that were stored; names what there is of both."""
    figure = folder.figure(stage, "predictions")
    figure.unlink(missing_ok=True)
    pictures = pictures_of(folder, stage)
    if pictures is None:
        return []
    names = [f"{folder.pictures(stage).name}/"]
    if "prediction" in pictures.pictures[0].parts:
        save(predictions_figure(pictures), figure)
        names.insert(0, figure.name)
    return names
