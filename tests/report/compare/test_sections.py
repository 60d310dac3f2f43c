"""Mixtures of tasks and data sets, and what a section shows beside its table."""

import json
from pathlib import Path
from typing import Any

import pytest

from distill.report.compare.comparison import Comparison, compare_records
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.run_folders import write_mixture, write_pictures, write_run


def compared(*runs: RunFolder) -> Comparison:
    return compare_records([RunRecord.read(run) for run in runs])


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return compared(*write_mixture(tmp_path_factory.mktemp("mixture"))).sections


@pytest.fixture
def instances(mixture: list[dict[str, Any]]) -> dict[str, Any]:
    return mixture[0]


def test_each_task_has_a_section(mixture: list[dict[str, Any]]) -> None:
    assert [(section["id"], section["title"], section["quality"]) for section in mixture] == [
        ("s0", "Instance segmentation on NWPU", "mask/AP"),
        ("s1", "Semantic segmentation on LoveDA", "mIoU"),
        ("s2", "Distillation on ImageFolder", "l1_ratio"),
    ]
    ids = [row["id"] for section in mixture for row in section["rows"]]
    assert len(set(ids)) == len(ids)


def test_columns_come_in_order(mixture: list[dict[str, Any]]) -> None:
    costs = ["params", "macs", "cpu_ms", "memory_mb", "size_mb", "train_hours"]
    keys = [[column["key"] for column in section["columns"]] for section in mixture]
    quality = ["mask/AP", "box/AP", "mask/AP50", "box/AP50", "boundary/AP", "mask/AP_large"]
    assert keys[0] == [*quality, "gain", *costs]
    assert keys[1] == ["mIoU", "macro_F1", "accuracy", "gain", *costs]
    assert keys[2] == ["l1_ratio", "cosine", "l1", "trivial_l1", *costs]
    shown = {column["key"]: column["shown"] for column in mixture[0]["columns"]}
    assert [key for key, is_shown in shown.items() if is_shown] == [*quality[:4], "gain", *costs]


def test_a_task_of_the_users_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", scores={"test/peaks": 3.0, "test/mIoU": 0.5}, costs={"params": 1e6})
    summary = json.loads(run.summary.read_text()) | {"task": "Counting"}
    run.summary.write_text(json.dumps(summary))
    (section,) = compared(run).sections
    assert section["title"] == "Counting on NWPU"
    assert [column["key"] for column in section["columns"]] == ["mIoU", "peaks", "params", "size_mb"]
    assert section["sentence"] == "RS4D tiny · scratch reaches mIoU 50.0 %."


def test_distillations_compare_by_ratio(mixture: list[dict[str, Any]]) -> None:
    section = mixture[2]
    assert section["sentence"] == (
        "RS4D small has the lowest l1 ratio, 0.3800, where 1 is the image-independent baseline; "
        "its teacher is ViT vit_tiny."
    )
    best = {row["name"]: row["best"] for row in section["rows"]}
    assert set(best["RS4D small"]) >= {"l1_ratio", "cosine", "l1"}
    assert section["classes"] is None
    (curve,) = section["curves"]
    assert (curve["metric"], curve["reference"]) == ("val/l1_ratio", 1.0)


def test_probes_and_the_teacher_of_a_distillation(tmp_path: Path) -> None:
    scores = {"val/l1_ratio": 0.4, "val/probe/objects/tokens": 0.6, "val/l1": 0.2}
    costs = {"params": 1e6, "teacher_params": 5e6, "teacher_macs": 9e9}
    run = write_run(tmp_path / "a", "distillation", scores=scores, costs=costs)
    (section,) = compared(run).sections
    columns, probe = {column["key"]: column for column in section["columns"]}, "probe/objects/tokens"
    assert (columns[probe]["better"], columns[probe]["unit"], columns[probe]["shown"]) == ("max", "%", True)
    teacher, student = section["rows"]
    assert (teacher["role"], teacher["student"], teacher["runs"]) == ("teacher", "ViT vit_tiny", [])
    assert teacher["values"]["params"]["mean"] == 5e6
    assert student["values"]["macs"] == {"missing": "the run did not record it"}
    assert "params" not in teacher["best"]


def test_several_teachers_of_a_distillation_have_a_row_together(tmp_path: Path) -> None:
    costs: dict[str, Any] = {"macs": 1e9, "teacher_params": 5e6, "teacher_macs": 9e9}
    costs |= {"teachers": "ViT vit_tiny (2 views) + SAM sam_vit_b", "teachers_params": 8e6, "teachers_macs": 3e10}
    (section,) = compared(write_run(tmp_path / "a", "distillation", scores={"val/l1_ratio": 0.4}, costs=costs)).sections
    found = {row["student"]: row["values"]["macs"]["mean"] for row in section["rows"]}
    assert found == {"ViT vit_tiny": 9e9, costs["teachers"]: 3e10, "RS4D tiny": 1e9}
    assert section["sentence"].endswith("; its teacher is ViT vit_tiny with 9 times the multiply-adds.")


def test_bounds_are_shown_and_not_ranked(tmp_path: Path) -> None:
    scratch = write_run(tmp_path / "scratch", scores={"test/mask/AP": 0.2}, costs={"params": 1e6})
    bound = {"run.reference": "all-labels", "trainer.max_steps": 9}
    most = write_run(tmp_path / "most", scores={"test/mask/AP": 0.9}, costs={"params": 1e6}, recipe=bound)
    distilled = write_run(tmp_path / "d", init="distilled", scores={"test/mask/AP": 0.5}, costs={"params": 1e6})
    (section,) = compared(scratch, most, distilled).sections
    rows = {row["name"]: row for row in section["rows"]}
    assert list(rows) == ["RS4D tiny · all-labels", "RS4D tiny · distilled", "RS4D tiny · scratch"]
    assert rows["RS4D tiny · all-labels"]["role"] == "bound"
    assert rows["RS4D tiny · all-labels"]["best"] == rows["RS4D tiny · distilled"]["dominated_by"] == []
    assert rows["RS4D tiny · distilled"]["values"]["gain"]["mean"] == pytest.approx(0.3)  # over scratch
    assert "mask/AP" in rows["RS4D tiny · distilled"]["best"]
    assert section["sentence"].startswith("RS4D tiny · distilled has the highest mask AP")


def test_the_spread_of_a_probe_over_its_labels(tmp_path: Path) -> None:
    scores = {"test/mask/AP": 0.2, "test/probe/16 scenes/tokens": 0.6}
    spread = {"spread": {"probe/16 scenes/tokens": 0.02}}
    (section,) = compared(write_run(tmp_path / "a", scores=scores, scored=spread)).sections
    (row,) = section["rows"]
    assert row["values"]["probe/16 scenes/tokens"]["sd"] == 0.02
    assert row["values"]["mask/AP"]["sd"] is None
    second = write_run(tmp_path / "b", scores={**scores, "test/probe/16 scenes/tokens": 0.8}, scored=spread, seed=1)
    (row,) = compared(RunFolder(tmp_path / "a"), second).sections[0]["rows"]
    assert row["values"]["probe/16 scenes/tokens"]["sd"] == pytest.approx(0.141421)  # over seeds where there are some


def test_the_teacher_is_known_by_its_file_also_in_a_copy(tmp_path: Path) -> None:
    place = tmp_path / "there"
    runs = [write_run(place / "teacher", scores={"test/mask/AP": 0.5})]
    runs.append(write_run(place / "distil", "distillation", weights="teacher/student.safetensors"))
    roles = {row["student"]: row["role"] for row in compared(*runs).sections[0]["rows"]}
    assert roles == {"RS4D tiny": "teacher"}
    place.rename(tmp_path / "here")
    moved = [RunFolder(tmp_path / "here" / run.path.name) for run in runs]
    assert compared(*moved).sections[0]["rows"][0]["role"] == "teacher"


def test_runs_of_an_earlier_version(tmp_path: Path) -> None:
    """Their summaries know neither task nor initial weights, and the latency has another name."""
    planted: dict[str, dict[str, Any]] = {
        "teacher": {"student": "ViT b", "scores": {"test/mask/AP": 0.5}},
        "distill": {"task": "distillation", "weights": "teacher/student.safetensors"},
        "scratch": {"scores": {"test/mask/AP": 0.2}},
        "distilled": {"init": "distilled", "weights": "distill/student.safetensors", "scores": {"test/mask/AP": 0.3}},
    }
    runs = [write_run(tmp_path / name, **one) for name, one in planted.items()]
    for run in runs:
        summary = json.loads(run.summary.read_text())
        known = {key: summary[key] for key in ("student", "data", "image_size", "params", "macs", "steps")}
        run.summary.write_text(json.dumps(known | {"cpu_latency_ms": 7.0}))
        if run.name != "distill":
            facts = {"checkpoint": "last.ckpt", "step": 100, "image_size": 128, "images": 12, "max_detections": 100}
            run.facts("test").write_text(json.dumps(facts))
    section, distillation = compared(*runs).sections
    names = ["ViT b · teacher", "RS4D tiny · distilled", "RS4D tiny · scratch"]
    assert [row["name"] for row in section["rows"]] == names
    assert section["notes"] == []
    values = section["rows"][1]["values"]
    assert values["gain"]["mean"] == 0.1
    assert values["cpu_ms"]["mean"] == 7
    assert "train_hours" not in values
    assert distillation["rows"][0]["values"]["l1_ratio"]["missing"].startswith("not scored yet; run `distill validate")


def test_curves_have_a_band_over_seeds(instances: dict[str, Any]) -> None:
    quality, loss = instances["curves"]
    assert (quality["metric"], loss["metric"]) == ("val/mask/AP", "train/loss")
    names = {row["id"]: row["name"] for row in instances["rows"]}
    line = next(line for line in quality["lines"] if names[line["row"]] == "RS4D tiny · scratch")
    assert line["n"] == 3
    assert line["step"] == list(range(10, 101, 10))
    assert line["hours"][-1] == 0.5
    assert (line["low"][-1], line["mean"][-1], line["high"][-1]) == (0.276, 0.28, 0.284)


def test_long_curves_are_thinned(tmp_path: Path) -> None:
    history = [{"step": step, "val/mask/AP": step / 1000} for step in range(1000)]
    (section,) = compared(write_run(tmp_path / "a", history=history)).sections
    (line,) = section["curves"][0]["lines"]
    assert len(line["step"]) == len(line["mean"]) == 200
    assert (line["step"][0], line["step"][-1]) == (0, 999)
    assert line["mean"] == [step / 1000 for step in line["step"]]
    assert (line["low"], line["hours"]) == (None, None)


def test_different_teachers_are_said(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / teacher, "distillation", teacher=teacher, weights=f"{teacher}.pt", scores={"val/l1": 0.2})
        for teacher in ("ViT a", "ViT b")
    ]
    (section,) = compared(*runs).sections
    (note,) = section["notes"]
    assert note["level"] == "red"
    assert "different teachers (ViT a, ViT b)" in note["text"]


def test_resumed_curves_keep_the_later_row(tmp_path: Path) -> None:
    history = [{"step": 1, "val/mask/AP": 0.5}, {"step": 2, "val/mask/AP": 0.1}, {"step": 2, "val/mask/AP": 0.6}]
    run = write_run(tmp_path / "a", history=history)
    with run.metrics.open("a") as file:
        file.write("3,0.4e-\n4")  # of processes that were killed
    (section,) = compared(run).sections
    assert section["curves"][0]["lines"][0]["mean"] == [0.5, 0.6]


def test_classes_are_compared_with_the_scratch_baseline(tmp_path: Path) -> None:
    classes = {
        ("scratch", 0): {"ship": (9, 0.2), "plane": (5, 0.5)},
        ("scratch", 1): {"ship": (9, 0.3), "plane": (5, 0.5)},
        ("distilled", 0): {"ship": (9, 0.2), "plane": (5, 0.6)},
        ("distilled", 1): {"ship": (9, 0.34), "plane": (5, 0.8)},
    }
    runs = [
        write_run(tmp_path / f"{init}{seed}", init=init, seed=seed, scores={"test/mask/AP": 0.3}, classes=of)
        for (init, seed), of in classes.items()
    ]
    (section,) = compared(*runs).sections
    (pair,) = section["classes"]["pairs"]
    assert pair["classes"] == [
        {"name": "plane", "count": 5, "counted": "objects", "value": 0.7, "scratch": 0.5, "difference": 0.2},
        {"name": "ship", "count": 9, "counted": "objects", "value": 0.27, "scratch": 0.25, "difference": 0.02},
    ]
    ids = {row["init"]: row["id"] for row in section["rows"]}
    assert (pair["row"], pair["scratch"]) == (ids["distilled"], ids["scratch"])


def test_classes_of_pixels(mixture: list[dict[str, Any]]) -> None:
    classes = mixture[1]["classes"]
    assert (classes["metric"], classes["pairs"][0]["classes"][0]["counted"]) == ("IoU", "pixels")


def test_pictures_are_those_of_the_first_seed(instances: dict[str, Any], mixture: list[dict[str, Any]]) -> None:
    first, second = instances["pictures"]
    assert (first["name"], second["name"]) == ("a.png", "b.png")
    assert first["shared"].keys() == {"input", "truth"}
    row = next(row for row in instances["rows"] if row["name"] == "RS4D tiny · scratch")
    shown = first["rows"][row["id"]]
    assert shown["parts"].keys() == {"prediction"}
    assert Path(shown["parts"]["prediction"]).parent.parent == Path(row["runs"][0])
    assert shown["captions"] == {"prediction": "1 objects"}
    maps = mixture[2]["pictures"][0]
    assert maps["shared"].keys() == {"input", "teacher"}
    assert next(iter(maps["rows"].values()))["parts"].keys() == {"corrupted", "student", "error"}


def test_pictures_of_the_fit_stand_in_for_those_of_the_scoring(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "distillation")
    for step in (10, 9):
        write_pictures(run, "fit", step, ["a.png"], "distillation")
    (section,) = compared(run).sections
    assert Path(section["pictures"][0]["shared"]["teacher"]).parent.name == "10"


def test_what_each_row_was_trained_with(instances: dict[str, Any]) -> None:
    (environment,) = instances["environments"]
    assert environment["rows"] == [row["id"] for row in instances["rows"]]
    assert environment["versions"]["torch"] == "2.15.0"
    keys = [difference["key"] for difference in instances["recipes"]]
    assert "model.init_args.student.init_args.checkpoint" in keys
    assert not any(key.startswith(("run", "seed")) for key in keys)


def test_commands_are_ready_for_a_shell(tmp_path: Path) -> None:
    overrides = {"model.init_args.head.init_args.score_threshold": 0.5}
    scored = {"checkpoint": "best.ckpt", "overrides": overrides}
    run = write_run(tmp_path / "my run", scores={"test/mask/AP": 0.3}, scored=scored)
    (section,) = compared(run).sections
    assert section["rows"][0]["commands"] == [
        f"distill fit '{run}/recipe.yaml' --run.dir '{tmp_path}/again_my run'",
        f"distill test '{tmp_path}/again_my run' --model.head.score_threshold 0.5 --ckpt_path best",
    ]
