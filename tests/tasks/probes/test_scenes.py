from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from distill.synthetic.scenes import CLASS_NAMES, write_scenes
from distill.tasks.probes.scenes import Scenes, read_scenes, scene_scores


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenes, Scenes]:
    """Scenes whose labels are drawn, and scenes that are scored."""
    root = tmp_path_factory.mktemp("scenes")
    folders = [write_scenes(root, split, count, 64) for split, count in (("known", 12), ("scored", 6))]
    known, scored = (read_scenes(folder / "images", folder / "annotations.json") for folder in folders)
    return known, scored


def knowing(scenes: Scenes) -> Tensor:
    """A map at stride 4 of the labels themselves."""
    return avg_pool2d(one_hot(scenes.labels.long(), scenes.classes).permute(0, 3, 1, 2).float(), 4)


def test_scenes_are_read_with_their_labels(parts: tuple[Scenes, Scenes]) -> None:
    known, _ = parts
    assert known.pixels.shape == (12, 3, 64, 64)
    assert known.classes == len(CLASS_NAMES) + 1
    assert set(known.labels.unique().tolist()) == set(range(known.classes))
    assert (known.labels == known.classes - 1).float().mean() > 0.4


def test_features_that_know_the_classes_find_those_that_are_labelled(parts: tuple[Scenes, Scenes]) -> None:
    by_image = {part.pixels.double().sum().item(): part for part in parts}

    def oracle(images: Tensor) -> Tensor:
        return knowing(by_image[(images * 255).round().double().sum().item()])

    scores = scene_scores(oracle, *parts, counts=(1, 4, 12), draws=3, batch_size=12)
    assert scores[12].mean > 0.98
    assert scores[12].sd is None  # all scenes are taken, once
    assert scores[1].mean < scores[4].mean <= scores[12].mean  # a few scenes do not show every class
    assert scores[1].sd is not None
    assert scores == scene_scores(oracle, *parts, counts=(1, 4, 12), draws=3, batch_size=12)
    assert scores[4] == scene_scores(oracle, *parts, counts=(4,), draws=3, batch_size=12)[4]


def test_features_that_know_nothing_find_one_class(parts: tuple[Scenes, Scenes]) -> None:
    scores = scene_scores(lambda images: torch.ones_like(avg_pool2d(images, 8)), *parts, counts=(4,), batch_size=5)
    assert scores[4].mean <= 0.2  # by chance, of the classes that single tokens show


def test_a_missing_image(parts: tuple[Scenes, Scenes], tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, "gone", 2, 64)
    next((folder / "images").iterdir()).unlink()
    with pytest.raises(Exception, match="does not exist"):
        read_scenes(folder / "images", folder / "annotations.json")
