"""The study on NWPU VHR-10 runs from end to end: two steps a run, on synthetic images in NWPU's layout."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from distill.synthetic.scenes import write_scenes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RUNS = (
    "pretrained",
    "teacher",
    "distilled/rs4d_tiny-4096-2400/0",
    "random/rs4d_tiny/0",
    "finetuned/rs4d_tiny-distilled-100-light/0",
    "finetuned/rs4d_tiny-scratch-25/0",
    "selected/rs4d_tiny-distilled-25-0.002/0",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """DATA of the study."""
    root = tmp_path / "data"
    for name in ("nwpu/images", "nwpu/annotations", "landcover/images", "unlabelled/images"):
        (root / name).mkdir(parents=True)
    for split, name, count in (("train", "train", 96), ("test", "val", 16)):
        scenes = write_scenes(tmp_path / "scenes", split, count, 128)
        content = json.loads((scenes / "annotations.json").read_text(encoding="utf-8"))
        for image in content["images"]:
            source = scenes / "images" / image["file_name"]
            image["file_name"] = f"{name}_{image['file_name']}"
            shutil.copy(source, root / "nwpu/images" / image["file_name"])
        (root / f"nwpu/annotations/{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "landcover/train.txt").write_text("one\n", encoding="utf-8")
    shutil.copy(source, root / "landcover/images/one.png")
    shutil.copy(source, root / "unlabelled/images/other.png")
    return root


@pytest.mark.slow
def test_stages_follow_each_other_and_tables_show_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import nwpu_study
    from nwpu_data import StudyData
    from nwpu_recipes import Recipes

    study = nwpu_study.Study(Recipes(StudyData(root, tmp_path / "work"), quick=True))
    for name in RUNS:
        assert set(nwpu_study.needed(name)) <= set(RUNS)
        study.make(name)
        assert study.done(name)
    labels = (study.recipes.data.labels(percent, 0).read_text(encoding="utf-8") for percent in (25, 100))
    few, all_of_them = (len(json.loads(text)["annotations"]) for text in labels)
    assert 0 < few < all_of_them
    found, selecting = (
        json.loads((study.recipes.folder(name) / "study.json").read_text(encoding="utf-8")) for name in RUNS[-2:]
    )
    assert set(found["ap"]) == {"val", "untied"}
    assert set(selecting["ap"]) == {"select"}
    assert 0 < found["probes"]["val"]["5"] <= 1
    capsys.readouterr()
    runs = nwpu_study.Runs(study.recipes.data.work, [0])
    nwpu_study.show(runs)
    nwpu_study.draw(runs, tmp_path / "nwpu.png")
    assert Image.open(tmp_path / "nwpu.png").width > 400
    shown = capsys.readouterr().out
    assert "rs4d_tiny random" in shown
    assert "rs4d_tiny scratch" in shown
    assert "rs4d_tiny distilled light" in shown
    assert "training images left out" in " ".join(shown.split())


def test_every_run_comes_after_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import nwpu_study

    listed = (nwpu_study.names, nwpu_study.names_of_heads, nwpu_study.names_of_selection)
    names = [name for names_of in listed for name in names_of([0, 1])]
    assert len(names) == len(set(names))
    for place, name in enumerate(names):
        assert set(nwpu_study.needed(name)) <= set(names[:place])
