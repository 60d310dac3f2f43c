"""`distill export`: files of a small trained run, compared with it in their own runtimes."""

import shutil
from pathlib import Path

import pytest
import torch

import distill.launch.export as exporting
from distill.cli import main
from distill.contracts import HeadBase
from distill.errors import UserError
from distill.exported.facts import ExportedFacts
from distill.exported.models import ExportedInstances, open_model
from distill.exported.session import open_session
from distill.exporters.graph import ExportGraph
from distill.exporters.instance_graph import InstanceGraph
from distill.launch.export import export
from distill.launch.load import load
from distill.launch.predict import predict

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
        assert len(one.checks) == 7
        assert all(check.difference.failed is None for check in one.checks)
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
    assert (facts.image_size, facts.stride, facts.max_detections) == (64, 8, 20)
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


def test_a_student_alone_and_what_is_printed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "pt2", "--part", "student", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "model.pt2" in said
    assert "64 px, not square" in said
    assert "verified on 7 images" in said
    assert open_session(tmp_path / "model.pt2").facts.kind == "features"
    with pytest.raises(UserError, match="feature maps of a student and no classes"):
        open_model(tmp_path / "model.pt2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "tensorrt"], "tensorrt"),
        (["--images", "nowhere"], "nowhere"),
        (["--checkpoint", "best.ckpt"], "best.ckpt"),
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


def test_a_head_without_a_form_is_one_line() -> None:
    with pytest.raises(UserError, match=r"HeadBase cannot be exported; heads.MaskRCNN"):
        HeadBase().export_form()
