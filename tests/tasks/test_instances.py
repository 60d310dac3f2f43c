import json
import re
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.cli import main
from distill.weights import read_state_dict


def test_fit_then_test_gives_pycocotools_own_digits(
    finetune_recipe: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["--trainer.max_steps=30", "--trainer.val_check_interval=30"]
    assert main(["fit", str(finetune_recipe), *steps]) == 0
    assert "distill test" in capsys.readouterr().out
    assert main(["test", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "test_predictions.json" in said
    facts = {
        "checkpoint": "last.ckpt",
        "step": 30,
        "image_size": 64,
        "images": 4,
        "split": "val",
        "max_detections": 100,
    }
    written = json.loads((tmp_path / "run" / "test_facts.json").read_text())
    assert re.fullmatch("[0-9a-f]{12}", written.pop("image_set"))
    assert written == facts | {"overrides": {}}
    scores = json.loads((tmp_path / "run" / "test.json").read_text())
    truth = COCO(str(scenes / "test" / "annotations.json"))
    predictions = json.loads((tmp_path / "run" / "test_predictions.json").read_text())
    assert predictions, "nothing was predicted, so nothing would be compared"
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", None, None, "AR")
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        # pycocotools takes the area of a box, where there is one, for that of the mask: sizes would be the boxes'.
        results = [{k: v for k, v in p.items() if kind == "bbox" or k != "bbox"} for p in predictions]
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        for number, metric in zip(evaluation.stats, names, strict=False):
            if metric is not None:
                expected = None if number == -1 else pytest.approx(number, abs=1e-12)
                assert scores[f"test/{name}/{metric}"] == expected, metric
    assert 0 <= scores["test/boundary/AP"] <= scores["test/mask/AP"]
    assert re.search(rf"\nbox +{100 * scores['test/box/AP']:.1f} ", said)
    for name in ("test_classes.csv", "test_confusion.png", "test_predictions.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_scores_do_not_outlive_their_weights(finetune_recipe: Path, tmp_path: Path) -> None:
    fit = ["fit", str(finetune_recipe), "--trainer.limit_val_batches=0"]
    assert main([*fit, "--trainer.max_steps=1"]) == 0
    assert main(["test", str(tmp_path / "run")]) == 0
    assert list((tmp_path / "run").glob("test*"))
    assert main([*fit, "--trainer.max_steps=2", "--ckpt_path=last"]) == 0
    assert not list((tmp_path / "run").glob("test*"))


def test_a_distilled_student_is_taken_and_trained(finetune_recipe: Path, distill_recipe: Path, tmp_path: Path) -> None:
    assert main(["fit", str(distill_recipe), f"--run.dir={tmp_path / 'distil'}"]) == 0
    weights = tmp_path / "distil" / "student.safetensors"
    assert main(["fit", str(finetune_recipe), f"--model.student.checkpoint={weights}", "--trainer.max_steps=1"]) == 0
    before, after = read_state_dict(weights), read_state_dict(tmp_path / "run" / "student.safetensors")
    assert before.keys() == after.keys()
    # One warm-up step away from the distilled weights, the position embedding included: nothing was drawn again.
    for name, tensor in before.items():
        assert (after[name] - tensor).abs().max() < 2e-3, name


def test_frozen_layers_stay_bitwise(finetune_recipe: Path, distill_recipe: Path, tmp_path: Path) -> None:
    assert main(["fit", str(distill_recipe), f"--run.dir={tmp_path / 'distil'}"]) == 0
    weights = tmp_path / "distil" / "student.safetensors"
    arguments = [f"--model.student.checkpoint={weights}", "--model.student.frozen_layers=6"]
    assert main(["fit", str(finetune_recipe), *arguments]) == 0
    before, after = read_state_dict(weights), read_state_dict(tmp_path / "run" / "student.safetensors")
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_a_checkpoint_of_other_classes_is_refused(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(finetune_recipe), "--trainer.max_steps=1"]) == 0
    assert main(["test", str(tmp_path / "run"), '--data.classes=["ship", "aircraft", "building"]']) == 2
    assert "declare data.classes" in capsys.readouterr().err
