"""The land-cover study: who trains on what, and how a run goes from the data to a row of the table."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.published import scene

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # its scripts import each other by name

import efficientnet_lite  # noqa: E402
import landcover  # noqa: E402
import landcover_runs  # noqa: E402
from landcover_runs import LABELS, SCRATCH, Run, Study, Teacher  # noqa: E402
from studying import spread  # noqa: E402


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training tiles of two parts and one test tile, with labels that follow brightness; three other images."""
    cover = tmp_path / "data/landcover"
    for kind in ("images", "labels"):
        (cover / kind).mkdir(parents=True)
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for tile in range(1, 8):
        for part in (1, 2):
            name, image = f"tile{tile}_00{part}", scene(10 * tile + part, 64, 80)
            image.save(cover / f"images/{name}.jpg")
            Image.fromarray((np.asarray(image)[..., 0] // 52).astype(np.uint8)).save(cover / f"labels/{name}.png")
            lists["val" if tile == 3 else "train"].append(name)
    for split, names in lists.items():
        (cover / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    for folder in ("nwpu/images", "nwpu/annotations", "unlabelled/images"):
        (cover.parent / folder).mkdir(parents=True)
    for number in range(3):
        scene(number, 64, 64).save(cover.parent / f"nwpu/images/{number}.jpg")
    images = {"images": [{"file_name": "0.jpg"}, {"file_name": "1.jpg"}]}
    (cover.parent / "nwpu/annotations/train.json").write_text(json.dumps(images), encoding="utf-8")
    scene(7, 64, 64).save(cover.parent / "unlabelled/images/a.jpg")
    return cover.parent


def test_shares_are_nested_and_scored_tiles_train_nothing(root: Path, tmp_path: Path) -> None:
    for select, tiles in ((False, {"tile3"}), (True, set(landcover_runs.HELD_OUT))):
        study = Study(root, tmp_path / "work", select, 1)
        assert {name.partition("_")[0] for name in study.scored()} == tiles
        for seed in (0, 1):
            few, every = study.labelled(0.25, seed), study.labelled(1.0, seed)
            assert set(few) < set(every)
            assert len(few) == round(len(every) / 4)
            assert not {"tile3", *tiles} & {name.partition("_")[0] for name in every}
    assert study.labelled(0.25, 0) != study.labelled(0.25, 1)


@pytest.mark.slow  # four short trainings
def test_from_data_to_the_table(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Teacher(
        {"class_path": "teachers.CNN", "init_args": {"name": "resnet10t", "stages": [3]}}, "stage_3", {1: "stage_3"}
    )
    monkeypatch.setitem(landcover_runs.TEACHERS, "imagenet", small)
    monkeypatch.setattr(landcover_runs, "SIDE", 32)
    monkeypatch.setattr(landcover_runs, "IN_DOMAIN", 1)
    monkeypatch.setattr(landcover_runs, "TEACHER_STEPS", 1)
    import timm

    weights = tmp_path / "resnet10t.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), weights)
    study = Study(root, tmp_path / "work", False, distill_steps=1)
    study.weights["imagenet"] = weights
    study.prepare()
    pixels = {path.name for path in (study.work / "pixels").rglob("*.*") if path.is_file()}
    assert {"0.png", "1.png", "a.jpg", "tile1_001.png"} < pixels
    assert not {"2.png", "tile3_001.png"} & pixels  # validation images of NWPU, test tiles
    with Image.open(study.work / "half/images/tile1_001.png") as image:
        assert image.size == (40, 32)

    words = f"--root {root} --work {study.work} --teachers imagenet={weights} --students lale_s1"
    words += " --shares 0.25 --seeds 0 --steps 1 --distill-steps 1"
    monkeypatch.setattr(sys, "argv", ["landcover.py", *words.split(), "--table"])
    rate = landcover.RATES["lale_s1"]
    scores = {start: study.score(Run("lale_s1", start, 0.25, 0, 1, rate)) for start in (SCRATCH, LABELS, "imagenet")}
    capsys.readouterr()
    landcover.main()
    printed = capsys.readouterr().out
    gain = 100 * (scores["imagenet"]["mIoU"] - scores[SCRATCH]["mIoU"])
    row = next(line for line in printed.splitlines() if "lale_s1, imagenet" in line)
    assert f"{gain:.1f}" in row
    assert f"{100 * scores['imagenet']['mIoU']:.1f}" in row
    assert "lale_s1, labels" in printed
    assert "colour histogram" in printed


def test_intervals_are_those_of_students_t() -> None:
    assert spread([1.0, 2.0, 3.0], 2) == "2.00 ± 2.48"  # 4.303 / sqrt(3)
    assert spread([1.25], 2) == "1.25"


def test_weights_of_another_order_are_refused() -> None:
    import timm

    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    renamed = {f"_{name}": tensor for name, tensor in own.items()}
    assert all(
        torch.equal(tensor, own[name])
        for name, tensor in efficientnet_lite.in_timms_names(renamed, "tf_efficientnet_lite0").items()
    )
    first, second, *others = renamed.items()
    with pytest.raises(ValueError, match="is not timm's"):
        efficientnet_lite.in_timms_names(dict([second, first, *others]), "tf_efficientnet_lite0")
