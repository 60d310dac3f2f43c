"""`distill.export`: a trained run becomes files for other runtimes, each compared with it before it gets its name."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from distill.errors import UserError, unknown_name
from distill.evaluation.units import counted
from distill.exported.facts import INT8, PLANES, ExportedFacts
from distill.exported.models import open_model
from distill.exporters.deepness import deepness_metadata, write_deepness
from distill.exporters.feature_graph import FeatureGraph
from distill.exporters.formats import (
    DEEPNESS,
    FORMATS,
    ONNX,
    OPENVINO,
    PT2,
    SAFETENSORS,
    SUFFIXES,
    known_formats,
    require_packages,
)
from distill.exporters.graph import ExportGraph
from distill.exporters.instance_graph import InstanceGraph
from distill.exporters.land_cover_graph import LandCoverGraph
from distill.exporters.onnx_file import onnx_model, save_onnx
from distill.exporters.openvino_file import write_openvino
from distill.exporters.pt2_file import write_pt2
from distill.exporters.quantize import ENOUGH, quantize
from distill.exporters.verify.images import CheckImage, Pixels, check_images
from distill.exporters.weights_file import require_shareable
from distill.files import move_into_place
from distill.launch.export_check import (
    Check,
    check_deepness,
    check_file,
    check_planes,
    fullest,
    require_equal,
    score_threshold_with_instances,
)
from distill.launch.export_facts import facts_of
from distill.launch.load import PARTS, load
from distill.launch.predictors import InstancePredictor, Predictor, SemanticPredictor
from distill.launch.run_images import run_images
from distill.launch.share import push
from distill.launch.stored_run import StoredRun
from distill.launch.val_scores import changes, require_equal_scores, require_little_loss, validation_scores
from distill.phases import phase

NAME = "model"  # of the files; the format gives the suffix
_PHOTOGRAPHS = 8


@dataclass(frozen=True)
class Exported:
    """Files of one format that were written.

    Attributes:
        format: See `export`.
        path: The file that names the others, if there are others.
        files: All of them.
        facts: What the file tells of itself; None of weights, beside which the run's recipe lies.
        checks: How it differs from the run, image by image.
        notes: What there is to tell about it.
    """

    format: str
    path: Path
    files: Sequence[Path]
    facts: ExportedFacts | None
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()

    @property
    def runtime(self) -> str:
        """The name of the runtime for the file."""
        return FORMATS[self.format]


def export(
    run: str | PathLike[str],
    formats: str | Sequence[str] = ONNX,
    *,
    out: str | PathLike[str],
    part: str = "model",
    checkpoint: str | None = None,
    max_detections: int | None = None,
    score_threshold: float | None = None,
    images: str | PathLike[str] | None = None,
    full: bool = False,
    int8: bool = False,
    allow_loss: bool = False,
) -> list[Exported]:
    """Writes a run as files for other runtimes.

    Each file is run in its own runtime, in float32, on images of the run at four sizes, on one without an object and
    on a crowded one. One that differs from the run is not kept; a file of the same name that was there before is.
    Where no image has an instance, what lies below the score threshold is compared.

    Args:
        run: The run folder.
        formats: One or several of "onnx", "openvino", "pt2", "safetensors" and, of land cover, "deepness", an ONNX file
            for the plugin of QGIS of that name.
        out: The output folder; the files are called `model` with the suffix of their format.
        part: "model", or "student" for the backbone alone, whose outputs are feature maps.
        checkpoint: See `distill.load`.
        max_detections: Raises how many instances the file finds in one image, where the head has a limit.
        score_threshold: Lowers the lowest score of an instance in the file, which is the head's own.
        images: A folder of images to compare on, in place of the validation images of the run.
        full: Whether AP or mIoU on all validation images have to be equal, too, to 0.05 points.
        int8: Whether files of "onnx" and "openvino" compute in 8 bits. They are made of files that were compared in
            float32, calibrated on training images, and scored on the validation images.
        allow_loss: Whether an int8 file that loses more than a point is kept.

    Returns:
        What was written, in the order of `formats`.

    Raises:
        UserError: A part of the model cannot be exported, the library of a format is not installed, there are no
            images to compare on, the views of the run are smaller than a file takes, a file differs from the run or
            loses too much in int8, or it cannot be written.
    """
    wanted = known_formats(formats)
    if int8 and (others := [name for name in wanted if name not in (ONNX, OPENVINO)]):
        raise UserError(f"--int8 makes onnx and openvino files; leave out {', '.join(others)}, or --int8")
    require_packages(wanted, int8)
    if part not in PARTS:
        raise unknown_name("part", part, PARTS)
    if part != "model" and SAFETENSORS in wanted:
        raise UserError(f"--part {part} is of no use for {SAFETENSORS}, which is the whole run; leave one out")
    folder = Path(out)
    if wanted == [SAFETENSORS]:  # weights are compared with nothing, so any model has them
        return [_shared(run, folder, checkpoint)]
    stored = StoredRun(Path(run))
    # Read first: the folders of a run's images may be gone.
    seen = run_images(stored, "val", _PHOTOGRAPHS, None if images is None else Path(images))
    calibration = run_images(stored, "train", ENOUGH) if int8 else []
    reference = load(
        run,
        part=part,
        checkpoint=checkpoint,
        device="cpu",
        max_detections=max_detections,
        score_threshold=score_threshold,
        float32=True,
    )
    if (full or int8) and not isinstance(reference, InstancePredictor | SemanticPredictor):
        raise UserError("a student alone has no scores on labels; leave out --full and --int8")
    graph = _graph_of(reference)
    facts = facts_of(stored, reference, graph, checkpoint)
    # All refusals come before the first file, which takes minutes.
    if SUFFIXES.keys() & wanted:
        _require_own_views(facts, graph)
    if DEEPNESS in wanted:
        _require_land_cover(stored, reference, facts)
    if SAFETENSORS in wanted:
        require_shareable(stored.folder)
    model = _Model(stored, graph, facts, reference, calibration)
    written = []
    for name in wanted:
        if name == SAFETENSORS:
            written.append(_shared(run, folder, checkpoint))
        elif name == DEEPNESS:
            written.append(_for_qgis(model, seen, folder))
        else:
            checked = check_images(seen, stored.image_size, facts.stride, math.ceil(facts.smallest / facts.zoom))
            written.append(_written(name, model, checked, folder, full, int8, allow_loss))
    return written


def _require_own_views(facts: ExportedFacts, graph: ExportGraph) -> None:
    """Refuses views of a detector, and windows of land cover, that no file takes: padded, they give other results."""
    side, window = facts.image_size, facts.window
    because = f"because a cell of its coarsest map has {graph.coarsest} px"
    if side is not None and (side < facts.smallest or side % facts.stride):
        raise UserError(
            f"{facts.run} cannot be exported: its views have {side} px, and a file takes {facts.smallest} px or more, "
            f"in multiples of {facts.stride}, {because}; train with "
            f"--data.image_size {max(side + -side % facts.stride, facts.smallest)}"
        )
    if window is not None and window < facts.smallest:
        raise UserError(
            f"{facts.run} cannot be exported: its windows have {window} px, and a file takes {facts.smallest} px or "
            f"more, {because}; train with --model.window {facts.smallest} or more, or null"
        )


def _require_land_cover(run: StoredRun, reference: Predictor, facts: ExportedFacts) -> None:
    """Refuses what the plugin of QGIS cannot show."""
    if not isinstance(reference, SemanticPredictor):
        raise UserError(f"{run.name} is no run of land cover, which {DEEPNESS} files are for; export it as {ONNX}")
    deepness_metadata(facts)


@dataclass(frozen=True)
class _Model:
    """What is written in every format, the run to compare with, and images that int8 is calibrated on."""

    run: StoredRun
    graph: ExportGraph
    facts: ExportedFacts
    reference: Predictor
    calibration: Sequence[Pixels]

    @cached_property
    def onnx(self) -> Any:
        """The graph in ONNX, which takes most of the time of an export and serves two formats."""
        return onnx_model(self.graph)

    @cached_property
    def scores(self) -> dict[str, float]:
        """Of the run, on all of its validation images."""
        assert isinstance(self.reference, InstancePredictor | SemanticPredictor)
        return validation_scores(self.reference, self.run, "the run")


def _graph_of(reference: Predictor) -> ExportGraph:
    if isinstance(reference, InstancePredictor):
        return InstanceGraph(reference.network)
    if isinstance(reference, SemanticPredictor):
        return LandCoverGraph(reference.network, resized=reference.zoom == 1.0)
    return FeatureGraph(reference.network)


def _written(
    name: str, model: _Model, images: Sequence[CheckImage], out: Path, full: bool, int8: bool, allow_loss: bool
) -> Exported:
    """A file that was compared with the run in a folder of its own, and then moved into `out`."""
    facts, wanted = model.facts, f"{NAME}{SUFFIXES[name]}"
    with _scratch(out) as place:
        path = place / wanted
        with phase(f"writing {wanted}"):
            _write(name, model, path)
        with phase(f"running {wanted} in {FORMATS[name]} on {counted(len(images), 'image')}"):
            checks = check_file(path, model.reference, model.graph, images)
        require_equal(checks, wanted)
        notes = [note for note in (fullest(checks, facts.max_detections),) if note]
        if not any(check.difference.compared for check in checks):
            checks, note = _without_instances(name, model, path, images)
            require_equal(checks, wanted)
            notes = [note]
        if name == OPENVINO:
            notes += _of_own_precision(path, model, images)
        if full:
            found = changes(model.scores, validation_scores(open_model(path), model.run, wanted))
            require_equal_scores(found, wanted)
            notes += [str(change) for change in found]
        if int8:
            path, facts, more = _in_int8(path, model, allow_loss)
            notes += more
        files = [path.with_suffix(".bin"), path] if name == OPENVINO else [path]  # what names the other comes last
        for file in files:
            move_into_place(file, out / file.name)
    return Exported(name, out / path.name, tuple(out / file.name for file in files), facts, checks, tuple(notes))


def _without_instances(name: str, model: _Model, path: Path, images: Sequence[CheckImage]) -> tuple[list[Check], str]:
    """Checks of a file that finds no instance, as its run, and a note on what was compared instead.

    Probabilities of pixels are in the file. Boxes and scores below the threshold are not: a second file, which differs
    in the threshold alone, is compared in its place.
    """
    reference = model.reference
    assert isinstance(reference, InstancePredictor)
    with phase(f"comparing what {path.name} computes below its threshold, because no image has an instance"):
        if model.graph.kind == PLANES:
            return check_planes(path, model.graph, images), "no image has an instance: probabilities were compared"
        own = reference.score_threshold
        with score_threshold_with_instances(reference, images):
            lower = reference.score_threshold
            facts = replace(model.facts, score_threshold=lower)
            other = path.with_name(f"lower{path.suffix}")
            _write(name, replace(model, facts=facts), other)
            return check_file(other, reference, model.graph, images), (
                f"no image has an instance of the file's least score, {own:g}: a file that differs in the least score "
                f"alone, {lower:.3g}, was compared"
            )


def _in_int8(path: Path, model: _Model, allow_loss: bool) -> tuple[Path, ExportedFacts, list[str]]:
    """A file in int8 beside the one in float32, what it tells of itself, and what it lost."""
    out = path.with_name(f"{path.stem}-int8{path.suffix}")
    with phase(f"calibrating {out.name}"):
        quantized = quantize(path, model.calibration, model.facts, out)
    found = changes(model.scores, validation_scores(open_model(out), model.run, out.name))
    if not allow_loss:
        require_little_loss(found, path.name)
    return out, replace(model.facts, precision=INT8), [*quantized.notes(), *map(str, found)]


def _write(name: str, model: _Model, path: Path) -> None:
    if name == PT2:
        write_pt2(model.graph, model.facts, path)
    elif name == ONNX:
        save_onnx(model.onnx, model.facts, path)
    else:
        between = path.with_name("between.onnx")
        save_onnx(model.onnx, model.facts, between)
        write_openvino(between, model.facts, path)


def _of_own_precision(path: Path, model: _Model, images: Sequence[CheckImage]) -> list[str]:
    """How OpenVINO differs where it computes in what it prefers, which is bfloat16 on some processors."""
    checks = check_file(path, model.reference, model.graph, images[:1], exact=False)
    shown = ", ".join(f"{name} {value}" for name, value in checks[0].difference.row.items())
    return [f"computing as OpenVINO prefers on this processor differs by: {shown} ({checks[0].image})"]


def _shared(run: str | PathLike[str], out: Path, checkpoint: str | None) -> Exported:
    """The folder of weights and recipe that `distill push` writes."""
    shared = push(run, out / NAME, checkpoint=checkpoint)
    return Exported(SAFETENSORS, out / NAME, tuple(out / NAME / name for name in shared.files), None)


def _for_qgis(model: _Model, photographs: Sequence[Pixels], out: Path) -> Exported:
    """A land-cover file of one size, whose probabilities were compared with those of the run."""
    assert isinstance(model.reference, SemanticPredictor)
    wanted = f"{NAME}-{DEEPNESS}.onnx"
    with _scratch(out) as place:
        with phase(f"writing {wanted}"):
            graph = LandCoverGraph(model.reference.network)
            write_deepness(onnx_model(graph), model.facts, place / wanted)
        checks = check_deepness(place / wanted, model.reference, photographs)
        require_equal(checks, wanted)
        move_into_place(place / wanted, out / wanted)
    return Exported(DEEPNESS, out / wanted, (out / wanted,), model.facts, checks)


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder inside `out`, on the same disk, that is removed at the end.

    Raises:
        UserError: It cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=out, prefix=".export-"))
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); permit writing there, or name another") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
