"""The card: of a real run, and of scores that are rare in one."""

import json
from pathlib import Path

import yaml

from distill.cli import main
from distill.report.card import NO_TEST_FILES, origins, score_tables, write_card
from distill.runs.folder import RunFolder


def test_the_card_of_a_run_says_what_the_run_says(finetune_recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(finetune_recipe.read_text())
    content["model"]["init_args"]["head"] = {"class_path": "heads.DenseMasks"}
    finetune_recipe.write_text(yaml.safe_dump(content))
    steps = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.logger=false"]
    assert main(["fit", str(finetune_recipe), *steps]) == 0
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    text = (run / "card.md").read_text()
    assert f"| parameters of the student | {summary['params']:,} |" in text
    assert f"| peak memory of the student | {summary['memory_mb']:.0f} MB |" in text
    assert "| initialisation | scratch |" in text
    assert "| training time | 0.00 h |" in text
    assert "| head | DenseMasks |" in text
    assert "none was run: `trainer.limit_val_batches` is 0" in text
    assert f'load_student("{run}/student.safetensors")' in text
    assert "## Test" not in text
    assert main(["test", str(run), "--trainer.logger=false"]) == 0
    text = (run / "card.md").read_text()
    facts = json.loads((run / "test_facts.json").read_text())
    assert (
        f"## Test\n\nlast.ckpt, step 1, 4 images, image set {facts['image_set']}; {NO_TEST_FILES}\n\n| % | AP | AP50 |"
        in text
    )
    assert "![Labels and predictions](test_predictions.png)" in text


def write_run(folder: Path, checkpoint: str | None = None, **trainer: object) -> None:
    student = {"class_path": "students.RS4D", "init_args": {"variant": "tiny", "checkpoint": checkpoint}}
    recipe = {
        "model": {"class_path": "distill.FineTuningModule", "init_args": {"student": student}},
        "trainer": trainer,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    summary = {"student": "RS4D tiny", "params": 813696, "macs": 220000000, "steps": 1500, "train/loss": 1.0}
    summary |= {"teachers": "SAM b + SAM l", "teachers_macs": 4000000000}
    scores = {"val/box/AP": 0.0912, "val/mask/AP": None, "val/box/AP/ship": 0.25, "val/mask/AP/ship": None}
    (folder / "summary.json").write_text(json.dumps(summary | (scores if "limit_val_batches" not in trainer else {})))


def test_the_card_of_a_run_that_was_not_tested(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_card(RunFolder(tmp_path), "load()")
    text = (tmp_path / "card.md").read_text()
    assert "| parameters of the student | 813,696 |" in text
    assert "| multiply-adds of the student | 0.22 G |" in text
    assert "| all teachers | SAM b + SAM l |\n| multiply-adds of all teachers | 4.00 G |" in text
    assert "| initial weights of the student | random |" in text
    assert "## Last validation\n\n| % | AP |\n| --- | --- |\n| box | 9.1 |\n| mask | n/a |" in text
    assert "| ship | 25.0 | n/a |" in text
    assert "## Test" not in text
    assert "```python\nload()\n```" in text


def test_the_card_says_what_was_tested_and_where_weights_came_from(tmp_path: Path) -> None:
    write_run(tmp_path, "runs/distill/student.safetensors", limit_val_batches=0)
    (tmp_path / "test.json").write_text(json.dumps({"test/mIoU": 0.5, "test/IoU/water": 0.75, "test/F1/water": None}))
    facts = {"checkpoint": "best.ckpt", "step": 1500, "images": 122, "overrides": {"data.init_args.zoom": 2.0}}
    facts |= {"tile": 512, "tile_overlap": 64}
    (tmp_path / "test_facts.json").write_text(json.dumps(facts))
    write_card(RunFolder(tmp_path), "load()")
    text = (tmp_path / "card.md").read_text()
    assert "| initial weights of the student | runs/distill/student.safetensors |" in text
    assert "none was run: `trainer.limit_val_batches` is 0" in text
    assert (
        "## Test\n\nbest.ckpt, step 1,500, 122 images, tiles of 512 px that overlap by 64 px; scored with "
        "data.zoom 2.0\n" in text
    )
    assert "| mIoU | 50.0 % |" in text
    assert "| class, % | IoU | F1 |\n| --- | --- | --- |\n| water | 75.0 | n/a |" in text
    assert "test_predictions.png" not in text
    (tmp_path / "test_predictions.png").touch()
    write_card(RunFolder(tmp_path), "load()")
    assert "![Labels and predictions](test_predictions.png)" in (tmp_path / "card.md").read_text()


def test_scores_stand_under_their_names() -> None:
    """Probes have not all the same scores, and a class may have any name."""
    scores = {"val/probe/scenes/linear": 0.5, "val/probe/ships/tokens": 0.4, "val/IoU/road|path": 0.2}
    assert score_tables(scores) == (
        "| % | linear | tokens |\n| --- | --- | --- |\n| probe scenes | 50.0 |  |\n| probe ships |  | 40.0 |\n\n"
        "| class, % | IoU |\n| --- | --- |\n| road\\|path | 20.0 |"
    )


def test_the_weights_of_a_teacher_of_ones_own_are_not_called_published() -> None:
    teachers = {"mine.Teacher": {}, "teachers.SAM": {"name": "sam_vit_b"}, "teachers.ViT": {"pretrained": False}}
    said = [
        origins({"model": {"init_args": {"teacher": {"class_path": path, "init_args": arguments}}}})
        for path, arguments in teachers.items()
    ]
    assert [one["weights of the teacher"] for one in said] == [
        "as its class loads them",
        "published, sam_vit_b",
        "random",
    ]
