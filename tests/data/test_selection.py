"""Held-out training images, models that are not selected on what is reported, and rare classes seen more often."""

import json
import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from distill.cli import main
from distill.data import CocoInstances
from distill.data.selection import WINDOW, block_order, draw_repeats, epoch_size, hold_out, repeat_factors
from distill.errors import UserError
from tests.data.modules import instances

module = partial(instances, val="test")


def ids(data: CocoInstances, split: str) -> list[int]:
    return [image["id"] for image in data.dataset(split).images]


def test_parts_are_disjoint_complete_and_ordered() -> None:
    for fraction in (0.01, 0.25, 0.5, 0.99):
        kept, held_out = hold_out(range(12), fraction, seed=3)
        assert kept
        assert held_out
        assert sorted(kept + held_out) == list(range(12))
        assert kept == sorted(kept)
    assert len(hold_out(range(12), 0.25, 3)[1]) == 3
    assert hold_out(range(12), 0.25, 3) != hold_out(range(12), 0.25, 4)
    assert hold_out([1, 2], 0, 0) == ([1, 2], [])
    with pytest.raises(UserError, match="only 1 training image"):
        hold_out([1], 0.1, 0)


def test_validation_takes_a_part_of_train_and_test_the_val_files(scenes: Path) -> None:
    plain, data = module(scenes), module(scenes, val_fraction=0.25)
    assert sorted(ids(data, "train") + ids(data, "val")) == ids(plain, "train") == list(range(1, 13))
    assert len(ids(data, "val")) == 3
    assert ids(data, "test") == ids(plain, "val")
    assert [image["id"] for image in data.ground_truth("val")["images"]] == ids(data, "val")
    assert data.ground_truth("test") == plain.ground_truth("test")
    assert plain.selects_on_test
    assert not data.selects_on_test
    targets = [target.image_id for batch in data.val_dataloader() for target in batch["targets"]]
    assert targets == ids(data, "val")
    assert not {t.image_id for batch in data.train_dataloader() for t in batch["targets"]} & set(targets)


def test_held_out_images_lose_no_object_in_silence(scenes: Path, tmp_path: Path) -> None:
    held_out, trained_on = (ids(module(scenes, val_fraction=0.25), split)[0] for split in ("val", "train"))
    for image, stops in ((held_out, True), (trained_on, False)):
        content = json.loads((scenes / "train/annotations.json").read_text())
        next(record for record in content["annotations"] if record["image_id"] == image)["bbox"] = [0, 0, -1, 5]
        (tmp_path / "broken.json").write_text(json.dumps(content))
        data = module(scenes, val_fraction=0.25, train_annotations=str(tmp_path / "broken.json"))
        assert len(ids(data, "train")) == 9
        if stops:
            with pytest.raises(UserError, match="1 of the 3 images held out by val_fraction have objects that cannot"):
                data.dataset("val")
        else:
            assert len(ids(data, "val")) == 3


def test_the_held_out_part_is_the_same_for_every_seed_of_a_run(scenes: Path) -> None:
    first, second, other = (
        module(scenes, val_fraction=0.3, seed=seed, val_seed=val_seed) for seed, val_seed in ((0, 0), (1, 0), (0, 1))
    )
    assert ids(first, "val") == ids(second, "val") != ids(other, "val")
    limited = module(scenes, val_fraction=0.3, train_limit=4)
    assert ids(limited, "val") == ids(first, "val")
    assert not set(ids(limited, "train")) & set(ids(limited, "val"))


def test_contradictions_are_refused(scenes: Path) -> None:
    with pytest.raises(UserError, match=r"val_fraction is 1\.0"):
        module(scenes, val_fraction=1.0)
    with pytest.raises(UserError, match="validation images apart from the test images already"):
        module(scenes, val_fraction=0.1, test_images="x", test_annotations="y")


def test_a_model_selected_on_the_test_images_is_not_reported(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["--trainer.max_steps=2", "--trainer.val_check_interval=1"]
    assert main(["fit", str(finetune_recipe), *steps]) == 0
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert main(["test", str(tmp_path / "run"), "--ckpt_path=best"]) == 2
    assert "--data.val_fraction" in capsys.readouterr().err
    assert main(["test", str(tmp_path / "run"), "--ckpt_path=best", "--data.val_fraction=0.1"]) == 2
    assert "was trained with 0.0: other images would be held out" in capsys.readouterr().err
    given = yaml.safe_load(finetune_recipe.read_text())["data"]["init_args"]
    spelt = [
        f"--data.test_images={given['val_images']}/../images",
        f"--data.test_annotations={given['val_annotations']}",
    ]
    assert main(["test", str(tmp_path / "run"), "--ckpt_path=best", *spelt]) == 2
    assert "on the very images that" in capsys.readouterr().err
    assert main(["validate", str(tmp_path / "run"), "--ckpt_path=best"]) == 0
    assert main(["fit", str(finetune_recipe), *steps, "--data.val_fraction=0.3", "--run.overwrite=true"]) == 0
    assert main(["test", str(tmp_path / "run"), "--ckpt_path=best"]) == 0


def test_repeat_factors_by_hand() -> None:
    """Of 16 images all show class 0, four class 1 (f = 1/4) and one class 2 (f = 1/16); the threshold is 1/4."""
    classes = [{0, 1, 2}, {0, 1}, {0, 1}, {0, 1}, *[{0}] * 12]
    factors = repeat_factors(classes, 0.25)
    assert factors == [2.0] + [1.0] * 15
    assert repeat_factors(classes, 1.0) == [4.0, 2.0, 2.0, 2.0, *[1.0] * 12]
    assert repeat_factors([set(), {0}], 1.0) == [1.0, math.sqrt(2)]


def test_an_epoch_repeats_images_by_their_factors() -> None:
    factors = [1.0, 2.5, 1.2, 1.0, 3.0, 1.25]  # 9.95 in all
    assert epoch_size(factors) == 10
    counts = Counter()
    for seed in range(600):
        drawn = draw_repeats(factors, seed)
        assert len(drawn) == len(set(drawn)) == 10
        of_image = Counter(image for image, _ in drawn)
        for image, factor in enumerate(factors):
            assert math.floor(factor) <= of_image[image] <= math.ceil(factor * 10 / 9.95)
        counts += of_image
    for image, factor in enumerate(factors):
        assert counts[image] / 600 == pytest.approx(factor * 10 / 9.95, abs=0.06)
    assert draw_repeats(factors, 1) == draw_repeats(factors, 1)


def test_without_rare_classes_an_epoch_is_the_plain_one() -> None:
    assert draw_repeats([1.0] * 7, 5) == [(i, 0) for i in range(7)]
    assert epoch_size([0.1 * 10] * 1000) == 1000


def test_rare_classes_are_seen_more_often(scenes: Path) -> None:
    data = module(scenes, oversample_threshold=1.0, batch_size=1)
    loader = data.train_dataloader()
    views = data.dataset("train")
    classes = [views.classes(i) for i in range(len(views))]
    expected = epoch_size(repeat_factors(classes, 1.0))
    assert len(loader) == expected > len(views)
    seen = list(loader)
    assert len(seen) == expected
    by_image: dict[int, list[torch.Tensor]] = {}
    for batch in seen:
        by_image.setdefault(batch["targets"][0].image_id, []).append(batch["image"])
    assert len(by_image) == len(views)
    twice = next(images for images in by_image.values() if len(images) > 1)
    assert not torch.equal(twice[0], twice[1]), "a repeated image must get another view"
    with pytest.raises(UserError, match=r"oversample_threshold is 1\.5"):
        module(scenes, oversample_threshold=1.5)


def test_a_shuffle_by_blocks_has_every_image_once_and_few_blocks_at_a_time() -> None:
    blocks = np.repeat(np.arange(12, dtype=np.int32), 5)
    orders = [block_order(blocks, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    for order in orders:
        assert order.sort().values.tolist() == list(range(60))
        windows = [blocks[part.numpy()] for part in order.split(5 * WINDOW)]
        assert [len(set(window)) for window in windows] == [WINDOW] * 3
        assert all((np.diff(window) != 0).sum() > WINDOW for window in windows)  # mixed, not one after the other
