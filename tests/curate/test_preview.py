"""Contact sheets: what they show of objects and classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.curate.preview import class_sheet, contact_sheet
from distill.data import SemanticFolder
from distill.data.annotations import CocoAnnotations
from distill.errors import UserError
from tests.curate.checking import ship_images
from tests.data.published import coco, save, scene, write_json


@pytest.fixture
def ships(tmp_path: Path) -> Path:
    return ship_images(tmp_path / "ships")


def test_chosen_images_are_drawn_with_the_ids_of_their_objects(ships: Path) -> None:
    annotations = CocoAnnotations(next(ships.glob("annotations/*.json")))
    chosen = contact_sheet(annotations, ships / "images", names=["4.png", "1.png"])
    assert [axes.get_title() for axes in chosen.axes] == ["4.png: 1 object", "1.png: 1 object"]
    assert [axes.texts[0].get_text() for axes in chosen.axes] == ["ship 5", "ship 2"]
    assert {axes.texts[0].get_text() for axes in contact_sheet(annotations, ships / "images").axes} == {"ship"}


@pytest.mark.parametrize(
    ("box", "place", "side"),
    [
        ([4, 20, 17, 13], 20, "bottom"),  # above the box
        ([4, 0, 17, 13], 13, "top"),  # no room above: below
        ([4, -2, 17, 50], 0, "top"),  # nor below: within
    ],
)
def test_labels_lie_beside_the_object(ships: Path, box: list[int], place: int, side: str) -> None:
    content = coco(["0.png"], 1)
    content["annotations"][0]["bbox"] = box
    write_json(content, ships / "one.json")
    (axes,) = contact_sheet(CocoAnnotations(ships / "one.json"), ships / "images").axes
    (label,) = axes.texts
    assert label.get_position()[1] == place
    assert label.get_verticalalignment() == side


@pytest.fixture
def land(tmp_path: Path) -> SemanticFolder:
    """Three images whose masks hold two classes."""
    for number in range(3):
        save(scene(number), tmp_path / f"train/images/{number}.png")
        save(Image.fromarray(np.eye(48, 64, dtype=np.uint8)), tmp_path / f"train/masks/{number}.png")
    return SemanticFolder(str(tmp_path), classes={"land": 0, "line": 1})


def test_land_cover_of_chosen_images_and_of_a_seed(land: SemanticFolder) -> None:
    pairs = land.find("train")
    chosen = class_sheet(pairs, land.table, names=["2.png", "0", str(pairs[1].image)])
    assert [axes.get_title() for axes in chosen.axes][:3] == ["2.png", "0.png", "1.png"]
    (legend,) = chosen.legends
    assert [text.get_text() for text in legend.get_texts()] == ["land", "line", "not labelled"]
    drawn = {tuple(axes.get_title() for axes in class_sheet(pairs, land.table, seed=seed).axes) for seed in range(5)}
    assert len(drawn) > 1
    with pytest.raises(UserError, match=r"--image '9' is no image of that part; its first is '0.png'"):
        class_sheet(pairs, land.table, names=["9"])


def test_a_mask_of_another_size_than_its_image_is_refused(land: SemanticFolder) -> None:
    pairs = land.find("train")
    save(Image.fromarray(np.zeros((48, 60), np.uint8)), pairs[0].mask)
    with pytest.raises(UserError, match=r"0.png' is 60x48, but its image '.*' is 64x48"):
        class_sheet(pairs, land.table)
