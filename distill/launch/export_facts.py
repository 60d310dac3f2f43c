"""The facts that an exported file stores about its run."""

from dataclasses import replace
from importlib.metadata import version

from distill.exported.facts import ExportedFacts
from distill.exporters.graph import ExportGraph
from distill.exporters.instance_graph import InstanceGraph
from distill.files import digest_of
from distill.launch.predictors import InstancePredictor, Predictor, SemanticPredictor
from distill.launch.stored_run import StoredRun
from distill.launch.tile_defaults import tile_size
from distill.scene.model_facts import INSTANCES, LAND_COVER
from distill.scene.options import PredictOptions

STUDENT = "features"  # the task of a student alone


def facts_of(run: StoredRun, model: Predictor, graph: ExportGraph, checkpoint: str | None) -> ExportedFacts:
    """The facts of a file.

    Args:
        run: The run folder.
        model: The run as it predicts.
        graph: What is written.
        checkpoint: "last", "best" or a file; None for student.safetensors where the run has one, else "last".
    """
    summary = run.facts
    exported = run.folder.student
    weights = exported if checkpoint is None and exported.is_file() else run.checkpoint(checkpoint or "last")
    bands = run.data.get("bands")
    facts = ExportedFacts(
        kind=graph.kind,
        task=STUDENT,
        class_names=tuple(model.class_names),
        stride=graph.stride,
        least=graph.least,
        mean=tuple(graph.student.mean),
        std=tuple(graph.student.std),
        size=tile_size(run, summary, PredictOptions())[0],
        run=run.folder.path.resolve().name,
        student=graph.student.class_path,
        head="",
        digest=digest_of(weights),
        version=version("distill-rs"),
        bands=None if bands is None else tuple(bands),
        gsd=summary.get("gsd"),
    )
    if isinstance(model, SemanticPredictor):
        task = model.network
        return replace(
            facts,
            task=LAND_COVER,
            head=task.head.class_path,
            zoom=model.zoom,
            window=task.window,
            window_stride=task.stride,
        )
    if isinstance(model, InstancePredictor):
        assert isinstance(graph, InstanceGraph)
        return replace(
            facts,
            task=INSTANCES,
            head=model.network.head.class_path,
            image_size=model.size,
            score_threshold=model.score_threshold,
            max_detections=model.max_detections,
            mask_threshold=float(graph.settings["mask_threshold"]),
            mask_stride=int(graph.settings.get("mask_stride", 1)),
            min_area=int(graph.settings.get("min_area", 1)),
            object_side=summary.get("object_side"),
        )
    return facts
