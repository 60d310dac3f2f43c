"""What W&B is told of a run, read off run folders with planted numbers."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

from distill.report.dashboards.fields import (
    class_table,
    config_of,
    history_of,
    identity_of,
    logged_names,
    media_of,
    summary_of,
)
from distill.report.pictures.stored import read_pictures
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.run_folders import write_pictures, write_run

HISTORY = [
    {"step": 9, "lr-AdamW/pg1": 1e-3, "lr-AdamW/pg2": 2e-3},
    {"step": 9, "epoch": 0, "train/loss": 2.5},
    {"step": 19, "val/l1_ratio": 0.5, "val/cosine": 0.7, "val/trivial_l1": 0.8, "val/mask/AP": 0.1},
    {"step": 29, "val/l1_ratio": 0.4, "val/cosine": 0.9, "val/trivial_l1": 0.7, "val/mask/AP": math.nan},
    {"step": 39, "val/l1_ratio": 0.6, "val/cosine": 0.8, "val/trivial_l1": 0.9, "val/mask/AP/ship": 0.3},
]


def record(folder: RunFolder) -> RunRecord:
    return RunRecord.read(folder)


def test_the_summary_has_costs_scores_and_the_best_validation_of_each_direction(tmp_path: Path) -> None:
    scores = {"test/mask/AP": 0.25, "test/mask/AP/ship": 0.125, "test/mask/AP_large": None}
    found = summary_of(record(write_run(tmp_path / "a", scores=scores, history=HISTORY, size=5_000_000)))
    assert {k: v for k, v in found.items() if k.startswith("cost_")} == {
        "cost_params": 1e6,
        "cost_macs": 2e8,
        "cost_cpu_ms": 10.0,
        "cost_memory_mb": 100.0,
        "cost_train_hours": 0.5,
        "cost_size_mb": 5.0,
    }
    assert {k: v for k, v in found.items() if k.startswith("test_")} == {
        "test_mask_AP": 0.25,
        "test_mask_AP_ship": 0.125,
    }
    assert {k: v for k, v in found.items() if k.startswith("best_")} == {
        "best_l1_ratio": 0.4,
        "best_cosine": 0.9,
        "best_mask_AP": 0.1,
    }
    assert found["val_l1_ratio"] == 0.6


def test_the_config_says_what_a_run_is_made_of(tmp_path: Path) -> None:
    settings = {
        "model.init_args.target": "neck",
        "model.init_args.loss": {"terms": {"l1": 1.0, "cosine": 0.5}},
        "model.init_args.corruption": {
            "noise": 0.2,
            "mask": 0.1,
            "control": "fixed",
            "level": "token",
            "guide": "high",
        },
    }
    distilled = config_of(record(write_run(tmp_path / "a", "distillation", recipe=settings)))
    assert distilled["target"] == "neck"
    assert distilled["loss"] == "l1 + 0.5 cosine"
    assert distilled["corruption"] == "noise 0.2, mask 0.1, fixed, token, guide high"
    assert distilled["teacher"] == "ViT vit_tiny"
    assert not {"head", "git"} & distilled.keys()
    found = config_of(record(write_run(tmp_path / "b", init="distilled", seed=3)))
    recipe = found.pop("recipe")
    assert found == {
        "model": "RS4D tiny · distilled · MaskRCNN · NWPU",
        "student": "RS4D tiny",
        "student_class": "students.RS4D",
        "variant": "tiny",
        "init": "distilled",
        "teacher": "ViT vit_tiny",
        "dataset": "NWPU",
        "task": "instances",
        "head": "MaskRCNN",
        "seed": 3,
        "image_size": 128,
        "batch_size": 8,
        "lr": 1e-3,
    }
    other = {"c": {"seed": 4}, "d": {"recipe": {"model.init_args.optim.lr": 0.5}}}
    same_seeds, other_lr = (
        config_of(record(write_run(tmp_path / name, init="distilled", **given)))["recipe"]  # type: ignore[arg-type]
        for name, given in other.items()
    )
    assert same_seeds == recipe != other_lr


def test_the_history_has_every_row_under_names_of_its_own(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", history=HISTORY)
    first, second, *validations = history_of(folder)
    assert first == {"trainer/global_step": 9, "lr/pg1": 1e-3, "lr/pg2": 2e-3}
    assert second == {"trainer/global_step": 9, "epoch": 0, "train/loss": 2.5}
    assert [row.get("val/l1_ratio") for row in validations] == [0.5, 0.4, 0.6]
    assert math.isnan(validations[1]["val/mask/AP"])
    with folder.metrics.open("a") as file:
        file.write("4,0.00")  # a process was killed while it wrote
    assert len(list(history_of(folder))) == 6
    assert list(history_of(RunFolder(tmp_path))) == []


def test_no_name_of_the_summary_is_that_of_a_metric_and_all_can_be_sorted_by(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", scores={"test/mask/AP": 0.2}, history=HISTORY, classes={"ship": (3, 0.2)})
    write_pictures(folder, "test", 100, ["x/a.1.png", "b.png"])
    other = write_run(tmp_path / "b", "distillation", history=HISTORY[:2])
    write_pictures(other, "fit", 10, ["x/a.1.png"], "distillation")
    names = logged_names([record(folder), record(other)])
    assert not names.summary & names.history
    assert {"test_classes", "test_mask_AP", "cost_params"} <= names.summary
    assert {"trainer/global_step", "lr/pg1", "train/loss", "val/l1_ratio"} <= names.history
    assert names.media == {"predictions/x/a_1", "predictions/b", "maps/x/a_1"}
    assert not [name for name in names.summary | names.config if not re.fullmatch(r"[A-Za-z_]\w*", name)]


def test_pictures_of_an_image_are_one_list_with_captions(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    write_pictures(folder, "test", 100, ["a.png"])
    (shown,) = read_pictures(folder)
    (images,) = media_of(shown).values()
    assert [(path.name, said) for path, said in images] == [
        ("0_input.png", "input"),
        ("0_truth.png", "truth"),
        ("0_prediction.png", "prediction: 1 objects"),
    ]
    images[1][0].unlink()
    assert len(media_of(shown)["predictions/a"]) == 2


def test_the_table_of_classes_has_numbers_and_gaps(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", scores={"test/mask/AP": 0.2}, classes={"1_000": (3, 0.2)})
    found = class_table(record(folder))
    assert found is not None
    columns, rows = found
    assert dict(zip(columns, rows[1], strict=True)) == {
        "kind": "mask",
        "class": "1_000",
        "objects": 3,
        "AP": 0.2,
        "AP50": None,
        "AR": None,
    }
    assert class_table(record(write_run(tmp_path / "b"))) is None


def test_a_run_keeps_its_id_when_it_is_moved_and_when_it_goes_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", seed=1, history=HISTORY[:3], finished=False)
    begun = identity_of(record(folder))
    assert (begun.name, begun.group, begun.job_type) == ("RS4D · scratch · seed 1", "test", "fine-tune")
    moved = RunFolder(tmp_path / "elsewhere" / "b")
    shutil.copytree(folder, moved)
    with moved.metrics.open("a") as file:
        file.write(folder.metrics.read_text().splitlines()[-1] + "\n")
    moved.environment.unlink()
    assert identity_of(record(moved)).id == begun.id
    others = [
        write_run(tmp_path / "c", seed=2, history=HISTORY),
        write_run(tmp_path / "d", seed=1, history=HISTORY[2:]),
    ]
    assert len({begun.id, *(identity_of(record(other)).id for other in others)}) == 3
    folder.wandb_identity.write_text(json.dumps({"id": "abc", "facts": {"student": "RS4D tiny", "init": "scratch"}}))
    live = identity_of(record(folder))
    assert (live.id, live.name, live.tags) == ("abc", "RS4D tiny · scratch · seed 1", ("RS4D tiny", "NWPU"))


def test_names_are_known_without_heavy_imports() -> None:
    code = (
        "import sys, distill.report.dashboards.fields; "
        "print([m for m in ('torch', 'wandb', 'pytorch_lightning') if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
