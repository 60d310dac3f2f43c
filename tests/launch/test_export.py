"""`distill export`: files of a small trained run, compared with it in their own runtimes."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

import distill.launch.export as exporting
from distill.cli import main
from distill.cli.export import print_exported
from distill.contracts import HeadBase
from distill.errors import UserError
from distill.exported.facts import ExportedFacts
from distill.exported.models import ExportedInstances, open_model
from distill.exported.session import open_session
from distill.exporters.graph import ExportGraph
from distill.exporters.instance_graph import InstanceGraph
from distill.exporters.verify.instances import InstanceDifference
from distill.launch.bench import bench
from distill.launch.export import Exported, export
from distill.launch.export_check import Check
from distill.launch.export_facts import facts_of
from distill.launch.load import load
from distill.launch.predict import predict
from distill.launch.stored_run import StoredRun
from tests.small_recipes import fine_tuning

pytestmark = [pytest.mark.xdist_group("export"), pytest.mark.usefixtures("shallow")]  # one run serves all

FILES = {"onnx": {"model.onnx"}, "openvino": {"model.xml", "model.bin"}, "pt2": {"model.pt2"}}


@pytest.fixture(scope="module")
def run(exported_run: Path) -> Path:
    return exported_run


@pytest.fixture(scope="module")
def exported(shallow: None, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    for one in export(run, list(FILES), out=out):
        assert {path.name for path in one.files} == FILES[one.format]
        assert [check.image.split(" px")[0] for check in one.checks[:5]] == ["72", "88", "112", "80", "80"]
        assert len(one.checks) == 7
        for check in one.checks:
            assert isinstance(check.difference, InstanceDifference)
            assert check.difference.failed is None
            assert check.difference.matched == 20, "as many as fit"
    assert {path.name for path in out.iterdir()} == set().union(*FILES.values()), "nothing is left behind"
    return out


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt2"])
def test_scenes_hold_what_the_run_finds(name: str, run: Path, exported: Path, scenes: Path, tmp_path: Path) -> None:
    photo = next((scenes / "test" / "images").iterdir())
    model = open_model(exported / name)
    assert isinstance(model, ExportedInstances)
    score = float(load(run, device="cpu").predict(photo).scores[4:6].mean())  # an untrained model is sure of nothing
    mine = predict(run, photo, out=tmp_path / "run", score=score, device="cpu", overlay=False)
    file = predict(exported / name, photo, out=tmp_path / "file", score=score, overlay=False)
    assert mine.scenes[0].counts == file.scenes[0].counts
    assert sum(file.scenes[0].counts.values()) == 5


def test_a_file_tells_its_run(run: Path, exported: Path) -> None:
    facts = open_session(exported / "model.onnx").facts
    assert facts.run == "run"
    assert facts.class_names == tuple(load(run, device="cpu").class_names)
    assert (facts.student, facts.head) == ("students.RS4D", "heads.MaskRCNN")
    assert (facts.image_size, facts.stride, facts.max_detections) == (72, 8, 20)
    for place in (str(run.parent), "site-packages", str(Path(exporting.__file__).parent)):
        assert place.encode() not in (exported / "model.onnx").read_bytes(), "no path of this machine"


def test_a_file_that_differs_is_not_kept(
    run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what was there before replaced by it."""

    def write_wrong(graph: ExportGraph, facts: ExportedFacts, path: Path) -> None:
        assert isinstance(graph, InstanceGraph)
        shutil.copy(exported / "model.pt2", path)
        with torch.no_grad():
            graph.form.roi_head.mask_head.conv_logits.bias.add_(0.1)  # which is the run's own

    monkeypatch.setattr(exporting, "write_pt2", write_wrong)
    (tmp_path / "model.pt2").write_text("an earlier export")
    with pytest.raises(UserError, match=r"model.pt2 does not do what the run does, and is not kept.*masks differ by"):
        export(run, "pt2", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_text() == "an earlier export"


def test_a_format_that_is_refused_is_refused_before_other_files_are_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: object) -> None:
        raise UserError("cannot be shared")

    monkeypatch.setattr("distill.launch.share.require_shareable", refuse)
    monkeypatch.setattr(exporting, "require_shareable", refuse, raising=False)
    for name, said in (("deepness", "is no run of land cover"), ("safetensors", "cannot be shared")):
        with pytest.raises(UserError, match=said):
            export(run, ["pt2", name], out=tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_student_alone_and_what_is_printed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "pt2", "--part", "student", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "model.pt2" in said
    assert "72 px, not square" in said
    assert "verified on 7 images" in said
    assert open_session(tmp_path / "model.pt2").facts.kind == "features"
    with pytest.raises(UserError, match="feature maps of a student and no classes"):
        open_model(tmp_path / "model.pt2")


@pytest.fixture
def sure_of_nothing(run: Path, tmp_path: Path) -> Path:
    """The run, at a score threshold that it never reaches."""
    copy = tmp_path / "sure_of_nothing"
    shutil.copytree(run, copy)
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    recipe["model"]["init_args"]["head"]["init_args"]["score_threshold"] = 0.999
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return copy


def test_without_instances_a_lower_threshold_is_compared(
    sure_of_nothing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = export(sure_of_nothing, "pt2", out=tmp_path / "out")
    compared = [check.difference for check in one.checks if isinstance(check.difference, InstanceDifference)]
    assert len(compared) == 7
    assert sum(difference.matched > 0 for difference in compared) >= 4
    assert re.fullmatch(
        r"no image has an instance of the file's least score, 0.999: a file .* was compared", *one.notes
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.pt2"]
    assert open_session(tmp_path / "out" / "model.pt2").facts.score_threshold == 0.999
    print_exported(one)
    assert "verified on 7 images" in capsys.readouterr().out


@pytest.mark.slow
def test_without_instances_a_file_that_differs_is_not_kept(
    sure_of_nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_wrong(graph: ExportGraph, facts: ExportedFacts, path: Path) -> None:
        assert isinstance(graph, InstanceGraph)
        bias = graph.form.roi_head.bbox_head.fc_cls.bias
        with torch.no_grad():
            bias[0].add_(0.1)
            write_pt2(graph, facts, path)
            bias[0].sub_(0.1)

    write_pt2 = exporting.write_pt2
    monkeypatch.setattr(exporting, "write_pt2", write_wrong)
    with pytest.raises(UserError, match=r"model.pt2 does not do what the run does, and is not kept"):
        export(sure_of_nothing, "pt2", out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_said_where_nothing_could_be_compared(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_like(run)
    nothing = Check("64 px", InstanceDifference(0, 0.0, 0.0, 0.0, 0, 0))
    print_exported(Exported("pt2", run / "recipe.yaml", [run / "recipe.yaml"], facts, [nothing]))
    said = capsys.readouterr().out
    assert "no image had an instance: only that neither finds one was compared" in said
    assert "verified" not in said


def facts_like(run: Path) -> ExportedFacts:
    model = load(run, device="cpu", float32=True)
    return facts_of(StoredRun(run), model, InstanceGraph(model.network), None)


def test_planes_without_instances_are_compared(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the head of dense masks finds, before it is trained, nowhere."""
    recipe = fine_tuning(scenes, tmp_path / "run")
    recipe["model"]["init_args"]["head"] = {"class_path": "heads.DenseMasks"}
    recipe["trainer"] |= {"max_steps": 1, "limit_val_batches": 0, "logger": False}
    (tmp_path / "planes.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(tmp_path / "planes.yaml")]) == 0
    (one,) = export(tmp_path / "run", "pt2", out=tmp_path / "out")
    assert [set(check.difference.row) for check in one.checks] == 7 * [{"instances", "probabilities of pixels"}]
    assert one.notes == ("no image has an instance: probabilities were compared",)

    def write_wrong(graph: ExportGraph, facts: ExportedFacts, path: Path) -> None:
        assert isinstance(graph, InstanceGraph)
        bias = graph.form.head.decode.bias
        with torch.no_grad():
            bias.add_(0.01)
            write_pt2(graph, facts, path)
            bias.sub_(0.01)

    write_pt2 = exporting.write_pt2
    monkeypatch.setattr(exporting, "write_pt2", write_wrong)
    with pytest.raises(UserError, match=r"model.pt2 does not do .* probabilities of pixels differ by"):
        export(tmp_path / "run", "pt2", out=tmp_path / "out")


@pytest.mark.slow
def test_a_prompt_head_in_every_runtime(scenes: Path, tmp_path: Path) -> None:
    recipe = fine_tuning(scenes, tmp_path / "run")
    head = {"neck_channels": 16, "fc_channels": 32, "decoder_channels": 16, "mask_points": 64, "proposals": 50}
    head |= {"score_threshold": 0.0, "max_detections": 20}
    recipe["model"]["init_args"]["head"] = {"class_path": "heads.RSPrompter", "init_args": head}
    recipe["model"]["init_args"]["student"]["init_args"]["out_indices"] = [0, 1]
    recipe["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "logger": False}
    (tmp_path / "prompt.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(tmp_path / "prompt.yaml")]) == 0
    for one in export(tmp_path / "run", list(FILES), out=tmp_path / "out"):
        assert (one.facts.kind, one.facts.mask_stride, one.facts.smallest) == ("frames", 2, 40)
        differences = [check.difference for check in one.checks]
        assert len(differences) == 7
        for difference in differences:
            assert isinstance(difference, InstanceDifference)
            assert (difference.failed, difference.matched) == (None, 20)
    photo = next((scenes / "test" / "images").iterdir())
    score = float(load(tmp_path / "run", device="cpu").predict(photo).scores[4:6].mean())
    mine = predict(tmp_path / "run", photo, out=tmp_path / "mine", score=score, device="cpu", overlay=False)
    file = predict(tmp_path / "out" / "model.onnx", photo, out=tmp_path / "file", score=score, overlay=False)
    assert mine.scenes[0].counts == file.scenes[0].counts
    assert sum(file.scenes[0].counts.values()) > 0
    both = [tmp_path / "run", tmp_path / "out" / "model.onnx"]
    timed = bench(both, threads=1, repeats=1, memory=False).timings
    assert [set(one.parts) for one in timed] == [{"backbone", "neck", "proposals", "regions", "masks"}, set()]


def test_a_package_that_is_absent_is_named_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for words, wanted in (
        ([], "onnx files need the package onnx: pip install 'distill-rs[onnx]'"),
        (["--format", "pt2", "openvino"], "openvino files need the package onnx: pip install 'distill-rs[onnx]'"),
    ):
        assert main(["export", "runs/nowhere", "--out", str(tmp_path / "out"), *words]) == 2
        assert capsys.readouterr() == ("", f"distill: error: {wanted}\n")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(
        UserError, match=r"openvino files need the packages onnx and nncf.*distill-rs\[onnx,openvino\]'"
    ):
        export("runs/nowhere", "openvino", out=tmp_path / "out", int8=True)


@pytest.mark.parametrize("name", list(FILES))
def test_views_that_no_file_takes(name: str, exported_run: Path, tmp_path: Path) -> None:
    """The coarsest map of a view of 64 px would have one cell."""
    run = tmp_path / "run"
    shutil.copytree(exported_run, run)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("image_size: 72", "image_size: 64"))
    message = "run cannot be exported: its views have 64 px, and a file takes 72 px or more, in multiples of 8, .* 72$"
    with pytest.raises(UserError, match=message):
        export(run, name, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "tensorrt"], "tensorrt"),
        (["--images", "nowhere"], "nowhere"),
        (["--checkpoint", "best.ckpt"], "best.ckpt"),
        (["--format", "safetensors", "--part", "student"], "--part student is of no use for safetensors"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_images_that_are_gone_are_named_before_the_model_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(run, copy)
    text = (copy / "recipe.yaml").read_text()
    recipe = yaml.safe_load(text)
    recipe["data"]["init_args"]["val_images"] = "gone"
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(exporting, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    (one,) = export(copy, "safetensors", out=out)  # which is compared with nothing
    assert one.path.is_dir()
    with pytest.raises(UserError, match=r"data.val_images 'gone' does not exist; .*; name a folder with --images"):
        export(copy, "pt2", out=out)
    recipe = yaml.safe_load(text)
    recipe["data"]["init_args"]["train_images"] = "gone"
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match=r"data.train_images 'gone' does not exist"):
        export(copy, "onnx", out=out, int8=True)


def test_a_head_without_a_form_is_one_line() -> None:
    with pytest.raises(UserError, match=r"HeadBase cannot be exported; heads.MaskRCNN"):
        HeadBase().export_form()
