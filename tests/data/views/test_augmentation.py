"""Augmentations change what they say, draw nothing when off, and repeat."""

from functools import partial
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser

from distill.data import CocoInstances
from distill.data.views.augmentation import Augmentation, add_speckle
from distill.errors import UserError
from tests.data.modules import instances

module = partial(instances, val="train", batch_size=4)


def test_off_changes_and_draws_nothing() -> None:
    pixels = torch.randint(256, (3, 9, 7), dtype=torch.uint8)
    state = torch.get_rng_state()
    assert Augmentation().recolour(pixels) is pixels
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_speckle_has_the_moments_of_its_looks(looks: float) -> None:
    torch.manual_seed(0)
    amplitude = 40
    pixels = torch.full((3, 300, 200), amplitude, dtype=torch.uint8)
    speckled = add_speckle(pixels, looks)
    assert speckled.dtype == torch.uint8
    assert torch.equal(speckled[0], speckled[1])
    assert torch.equal(speckled[0], speckled[2])
    intensity = (speckled[0].double() / amplitude) ** 2
    # 60,000 pixels: the standard error of the mean is 0.004 at one look; rounding and clipping are below it.
    assert float(intensity.mean()) == pytest.approx(1, abs=0.015)
    assert float(intensity.var()) == pytest.approx(1 / looks, rel=0.05)


def test_speckle_is_multiplicative() -> None:
    """Dark stays dark, and the same draw scales with the image."""
    dark, bright = torch.full((3, 50, 50), 0, dtype=torch.uint8), torch.full((3, 50, 50), 60, dtype=torch.uint8)
    assert not add_speckle(dark, 1).any()
    torch.manual_seed(3)
    first = add_speckle(bright, 9)
    torch.manual_seed(3)
    second = add_speckle(bright // 2, 9)
    assert (first.float() - 2 * second.float()).abs().max() <= 1.5


def test_the_share_of_views_with_speckle() -> None:
    torch.manual_seed(0)
    pixels = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    change = Augmentation(speckle=0.3)
    changed = sum(not torch.equal(change.recolour(pixels), pixels) for _ in range(400))
    assert 90 < changed < 150


def test_light_and_colour_stay_within_their_strength() -> None:
    torch.manual_seed(0)
    pixels = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    means = [float(Augmentation(brightness=0.2).recolour(pixels).float().mean()) for _ in range(200)]
    assert 79 <= min(means) < 85
    assert 115 < max(means) <= 120
    ramp = torch.arange(0, 200, 2, dtype=torch.uint8).expand(3, 10, 100)
    spreads = [float(Augmentation(contrast=0.5).recolour(ramp).float().std()) for _ in range(50)]
    assert 0.45 < min(spreads) / float(ramp.float().std()) < 0.7
    assert 1.1 < max(spreads) / float(ramp.float().std()) < 1.5
    red = torch.tensor([200, 50, 50], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    gaps = [int(r) - int(g) for r, g, _ in (Augmentation(saturation=0.5).recolour(red)[:, 0, 0] for _ in range(50))]
    assert 73 < min(gaps) < 100
    assert 160 < max(gaps) <= 226
    grey = Augmentation(saturation=1.0).recolour(ramp)  # has no colour to change; torchvision rounds down
    assert (grey.int() - ramp.int()).abs().max() <= 1


def test_training_views_change_and_repeat_but_validation_does_not(scenes: Path) -> None:
    change = {"turns": True, "augmentation": Augmentation(0.3, 0.3, 0.3, speckle=1.0)}
    plain, first, again = (
        module(scenes, scale_jitter=(1.0, 1.0), flip=False, **given) for given in ({}, change, change)
    )
    batches = [next(iter(data.train_dataloader())) for data in (plain, first, again)]
    assert torch.equal(batches[1]["image"], batches[2]["image"])
    assert not torch.equal(batches[0]["image"], batches[1]["image"])
    for before, after in zip(batches[0]["targets"], batches[1]["targets"], strict=True):
        assert before.image_id == after.image_id
        assert torch.equal(before.masks.dense().flatten(1).sum(1), after.masks.dense().flatten(1).sum(1))
    fixed = [next(iter(data.val_dataloader()))["image"] for data in (plain, first)]
    assert torch.equal(*fixed)


def test_workers_do_not_change_augmented_views(scenes: Path) -> None:
    change = Augmentation(brightness=0.3, speckle=0.5)
    first, second = (
        [batch["image"] for batch in module(scenes, turns=True, augmentation=change, num_workers=n).train_dataloader()]
        for n in (0, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_recipes_can_set_it() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CocoInstances, "data")
    paths = dict.fromkeys(("train_images", "train_annotations", "val_images", "val_annotations"), "x")
    parsed = parser.parse_object({"data": paths | {"turns": True, "augmentation": {"contrast": 0.1, "looks": 2}}})
    built = parser.instantiate_classes(parsed).data
    assert (built.turns, built.augmentation) == (True, Augmentation(contrast=0.1, looks=2.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"brightness": 1.5}, "augmentation.brightness is 1.5"), ({"looks": 0.0}, "augmentation.looks is 0.0")],
)
def test_bad_strengths_are_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augmentation(**arguments)
