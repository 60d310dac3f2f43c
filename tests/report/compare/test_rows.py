"""Which runs make one row, and which do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.report.compare.comparison import compare_records
from distill.report.compare.seed_table import seed_table
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.run_folders import COSTS, write_run

AP = {"test/mask/AP": 0.3}
Write = Callable[..., RunFolder]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a run that differs in its seed from those before."""
    count = iter(range(100))

    def one(**planted: Any) -> RunFolder:
        seed = next(count)
        name = planted.pop("name", f"run{seed}")
        return write_run(tmp_path / name, **{"seed": seed, "scores": AP, **planted})

    return one


def sections(*runs: RunFolder, stage: str | None = None) -> list[dict[str, Any]]:
    return compare_records([RunRecord.read(run) for run in runs], stage=stage).sections


def rows(*runs: RunFolder) -> list[dict[str, Any]]:
    (section,) = sections(*runs)
    return section["rows"]


def red(row: dict[str, Any]) -> list[str]:
    return [note["text"] for note in row["notes"] if note["level"] == "red"]


@pytest.mark.parametrize(
    ("scored", "said"),
    [
        ({"checkpoint": "best.ckpt"}, "checkpoint is last.ckpt and best.ckpt"),
        ({"max_detections": 300}, "max_detections is 100 and 300"),
        ({"overrides": {"model.init_args.head.init_args.score_threshold": 0.5}}, "score_threshold"),
        ({"image_size": 256}, "image_size is 128 and 256"),
    ],
)
def test_runs_that_were_scored_differently_are_not_folded(write: Write, scored: dict[str, Any], said: str) -> None:
    same, also, other = write(), write(scored={"step": 90}), write(scored=scored)
    first, second = sorted(rows(same, also, other), key=lambda row: row["seeds"])
    assert (first["seeds"], second["seeds"]) == ([0, 1], [2])
    assert said in red(first)[0]
    assert str(other) in red(first)[0]
    assert str(same) in red(second)[0]
    assert first["name"] != second["name"]


def test_other_images_make_another_section(write: Write) -> None:
    other = write(seed=1, scored={"image_set": "ffffffffffff", "images": 7})
    first, second = sections(write(seed=0), other, write(seed=2), write(seed=3, scores=None))
    assert [row["seeds"] for row in first["rows"]] == [[0, 2, 3]]
    assert [row["seeds"] for row in second["rows"]] == [[1]]
    assert first["title"] != second["title"]
    assert (first["subtitle"], second["subtitle"]) == ("12 test images", "7 test images")
    for section in (first, second):
        assert "2 different sets of images" in section["notes"][0]["text"]
        assert section["notes"][0]["level"] == "red"


def test_a_test_on_validation_images_is_called_that(write: Write) -> None:
    (section,) = sections(write(scored={"split": "val"}), write(scored={"split": "val"}))
    assert section["subtitle"] == "12 validation images (there are no test files)"
    (section,) = sections(write(scored={"split": "val"}), write())
    assert section["subtitle"] == "12 test images", (
        "the images are the same, which a run of an earlier version calls so"
    )
    assert len(section["rows"]) == 1


def test_other_recipes_are_other_rows_and_named_apart(write: Write) -> None:
    key = "model.init_args.optim.lr"
    same, other = write(), write(recipe={key: 0.01})
    (section,) = sections(same, other)
    assert {row["name"] for row in section["rows"]} == {
        "RS4D tiny · scratch · lr 0.001",
        "RS4D tiny · scratch · lr 0.01",
    }
    (difference,) = section["recipes"]
    assert difference["key"] == key
    assert sorted(difference["values"].values()) == ["0.001", "0.01"]


def test_two_runs_of_one_seed_are_not_a_spread(write: Write) -> None:
    first, second = rows(write(seed=0, name="a"), write(seed=0, name="b"))
    assert (first["seeds"], second["seeds"]) == ([0], [0])
    assert {first["name"], second["name"]} == {"RS4D tiny · scratch · a", "RS4D tiny · scratch · b"}
    assert "one recipe and seed" in first["notes"][0]["text"]


def test_students_of_other_distillations_are_other_rows(write: Write, tmp_path: Path) -> None:
    """The recipes of the fine-tunings are the same but for the file of weights."""
    noise = "model.init_args.corruption.noise"
    for seed in (0, 1):
        for name, value in (("much", 0.5), ("little", 0.1)):
            write_run(tmp_path / f"{name}{seed}", "distillation", seed=seed, recipe={noise: value})
    runs = [
        write(seed=seed, init="distilled", weights=f"{name}{seed}/student.safetensors", name=f"tuned_{name}{seed}")
        for name in ("much", "little")
        for seed in (0, 1)
    ]
    assert [row["seeds"] for row in rows(*runs)] == [[0, 1], [0, 1]]


def test_a_run_without_scores_is_a_row_that_says_why(write: Write) -> None:
    unscored, unfinished = write(scores=None), write(student="RS4D small", finished=False)
    by_student = {row["student"]: row["values"]["mask/AP"] for row in rows(unscored, unfinished)}
    assert by_student["RS4D tiny"]["missing"] == f"not scored yet; run `distill test {unscored}`"
    # Without a summary only the class of the student is known.
    assert by_student["RS4D"]["missing"].endswith(
        f"continue it with `distill fit {unfinished.recipe} --ckpt_path last`"
    )


def test_an_unfinished_seed_belongs_to_its_row(write: Write) -> None:
    (row,) = rows(write(), write(finished=False))
    assert (row["seeds"], row["values"]["mask/AP"]["n"]) == ([0, 1], 1)
    assert "has not finished" in row["notes"][0]["text"]


def test_an_undefined_score_says_so(write: Write) -> None:
    (row,) = rows(write(scores={**AP, "test/mask/AP_large": None}))
    assert row["values"]["mask/AP_large"] == {"missing": "not defined on these images"}


def test_what_an_earlier_version_did_not_record_separates_nothing(write: Write) -> None:
    old = write()
    old.facts("test").write_text('{"checkpoint": "last.ckpt", "step": 100, "images": 12}')
    (section,) = sections(write(), old)
    assert [row["seeds"] for row in section["rows"]] == [[0, 1]]
    assert "earlier version" in section["notes"][0]["text"]


def test_the_nearest_scratch_baseline_is_taken(write: Write) -> None:
    near, far = {"model.init_args.optim.lr": 0.01}, {"model.init_args.optim.lr": 0.1, "data.init_args.batch_size": 2}
    runs = [write(seed=0, recipe=near), write(seed=0, name="far", recipe=far), write(seed=0, init="distilled")]
    found = {row["name"]: row for row in rows(*runs)}
    row = found["RS4D tiny · distilled"]
    (baseline,) = [other for other in found.values() if other["id"] == row["values"]["gain"]["scratch"]]
    assert "lr 0.01" in baseline["name"]
    assert "differs from its scratch baseline in model.optim.lr" in row["notes"][0]["text"]


def test_another_network_of_the_same_name_is_no_baseline(write: Write) -> None:
    patch = "model.init_args.student.init_args.patch_size"
    big = COSTS | {"params": 960_000, "macs": 880_000_000}
    other = write(seed=0, recipe={patch: 8}, costs=big, scores={**AP, "test/mask/AP": 0.1})
    distilled = write(seed=0, init="distilled", recipe={patch: 16}, costs=COSTS, scores={**AP, "test/mask/AP": 0.2})
    (section,) = sections(other, distilled)
    row = next(row for row in section["rows"] if row["init"] == "distilled")
    why = row["values"]["gain"]["missing"]
    assert why.startswith(
        "the RS4D tiny with MaskRCNN from scratch is another network (0.96 M parameters instead of 1.00, "
        "0.88 G multiply-adds instead of 0.20; model.student.patch_size differs); fit one with `distill fit "
    )
    assert why.endswith("--model.student.checkpoint null --run.dir FOLDER`")
    assert "same student from scratch" not in section["sentence"]
    assert row["notes"] == []
    same = write(seed=0, name="same", recipe={patch: 16}, costs=COSTS, scores={**AP, "test/mask/AP": 0.15})
    (section,) = sections(other, distilled, same)
    row = next(row for row in section["rows"] if row["init"] == "distilled")
    assert row["values"]["gain"]["mean"] == 0.05
    assert "5.0 points more than the same student from scratch (one seed)" in section["sentence"]


def test_a_gain_over_another_recipe_says_so_in_the_sentence(write: Write) -> None:
    recipe = {"model.init_args.optim.lr": 0.01}
    runs = write(seed=0, recipe=recipe), write(seed=0, init="distilled", scores={**AP, "test/mask/AP": 0.9})
    (section,) = sections(*runs)
    assert "more than the same student from scratch with another recipe (one seed)" in section["sentence"]


def test_no_student_is_best_where_all_found_nothing(write: Write) -> None:
    nothing = {"test/mask/AP": 0.0, "test/box/AP": 0.0004}
    (section,) = sections(write(seed=0, scores=nothing), write(seed=0, init="distilled", scores=nothing))
    assert section["sentence"] == "None of 2 students is best: mask AP is 0.0 % for all."
    assert all(row["best"] == [] for row in section["rows"])


def test_a_baseline_that_was_scored_differently_is_none(write: Write) -> None:
    scratch, distilled = write(seed=0), write(seed=0, init="distilled", scored={"checkpoint": "best.ckpt"})
    row = next(row for row in rows(scratch, distilled) if row["init"] == "distilled")
    assert "scored differently: checkpoint is best.ckpt and last.ckpt" in row["values"]["gain"]["missing"]


def test_seeds_that_cannot_be_paired(write: Write) -> None:
    row = next(row for row in rows(write(), write(init="distilled")) if row["init"] == "distilled")
    assert "no seed in common with its scratch baseline: 1 and 0" in row["values"]["gain"]["missing"]


def test_one_seed_has_no_interval(write: Write) -> None:
    row = next(row for row in rows(write(seed=0), write(seed=0, init="distilled")) if row["init"] == "distilled")
    assert (row["values"]["gain"]["mean"], row["values"]["gain"]["low"]) == (0, None)


def test_the_validation_of_the_fit_is_that_of_the_last_checkpoint(write: Write) -> None:
    ratio = {"val/l1_ratio": 0.5}
    history = [{"step": 10, **ratio}]
    of_fit, last = write(task="distillation", scores=None, history=history), write(task="distillation", scores=ratio)
    best = write(task="distillation", scores=ratio, scored={"checkpoint": "best.ckpt"})
    assert sorted(row["seeds"] for row in rows(of_fit, last, best)) == [[0, 1], [2]]


def test_stage_validate_compares_the_last_validation(write: Write) -> None:
    history = [{"step": 10, "val/mask/AP": 0.1}, {"step": 20, "val/mask/AP": 0.2}]
    (section,) = sections(write(history=history), stage="validate")
    assert section["rows"][0]["values"]["mask/AP"]["mean"] == 0.2
    assert "distill validate" in section["rows"][0]["commands"][1]


def test_one_path_is_one_however_it_is_written(write: Write, tmp_path: Path) -> None:
    """Relative to where a run was started, absolute, or relative to the same folder of a project that was copied."""
    key, place = "data.init_args.train_images", tmp_path / "images"
    relative, absolute, other = (write(recipe={key: path}) for path in ("images", str(place), "pictures"))
    copied = write(name="copy/run", recipe={key: "images"})
    first, second = sorted(rows(absolute, relative, other, copied), key=lambda row: row["seeds"])
    assert (first["seeds"], second["seeds"]) == ([0, 1, 3], [2])
    records = [RunRecord.read(run) for run in (relative, absolute)]
    assert seed_table(records, None).differences == []
    assert seed_table([records[1], RunRecord.read(other)], None).differences == [key]


def test_runs_that_differ_in_a_path_alone_say_so_with_the_path_as_given(write: Write, tmp_path: Path) -> None:
    key = "data.init_args.train_images"
    made = [write(recipe={key: str(tmp_path / name)}) for name in ("images", "pictures")]
    (section,) = sections(*made)
    (difference,) = [one for one in section["recipes"] if one["key"] == key]
    assert set(difference["values"].values()) == {str(tmp_path / name) for name in ("images", "pictures")}


def test_a_teacher_of_random_weights_is_named_as_one(write: Write) -> None:
    run = write(init="distilled", teacher="SAM sam_vit_b")
    summary = json.loads(run.summary.read_text())
    assert rows(run)[0]["teacher"] == "SAM sam_vit_b"
    run.summary.write_text(json.dumps({**summary, "init_teacher_weights": "random"}))
    assert rows(run)[0]["teacher"] == "SAM sam_vit_b with random weights"
    distillation = write(task="distillation", teacher="SAM sam_vit_b", scores={"val/l1_ratio": 0.9})
    summary = json.loads(distillation.summary.read_text())
    distillation.summary.write_text(json.dumps({**summary, "teacher_weights": "random"}))
    (section,) = sections(distillation)
    assert section["sentence"].endswith("; its teacher is SAM sam_vit_b with random weights.")
