import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from distill.errors import UserError
from distill.synthetic.scenes import write_scenes
from distill.tasks.probes.objects import ObjectProbe


def colours(images: Tensor) -> Tensor:
    """A map at stride 8 that knows the mean colour."""
    return avg_pool2d(images, 8)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With more objects than the scenes of other tests have."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, "train", 16, 128, seed=0)
    write_scenes(root, "test", 8, 128, seed=0)
    return root


@pytest.fixture
def build(scenes: Path) -> Callable[..., ObjectProbe]:
    def probe(**arguments: Any) -> ObjectProbe:
        files = {
            f"{key}_{kind}": str(scenes / split / name)
            for key, split in (("train", "train"), ("val", "test"))
            for kind, name in (("images", "images"), ("annotations", "annotations.json"))
        }
        return ObjectProbe(**(files | {"image_size": 32, "shots": 4, "draws": 2} | arguments))

    return probe


def test_objects_of_scenes_are_scored(build: Callable[..., ObjectProbe]) -> None:
    probe, before = build(), torch.get_rng_state()
    scores = probe.score(colours)
    assert torch.equal(torch.get_rng_state(), before)
    assert scores.keys() == {"linear", "few_shot", "knn", "tokens"}
    assert scores["linear"] > 0.3  # a sixth by chance; ships are on water
    assert scores == probe.score(lambda images: [torch.zeros_like(images), colours(images)])  # the last map counts
    assert scores == build(batch_size=3).score(colours)
    blind = probe.score(lambda images: torch.ones_like(colours(images)))
    assert blind["linear"] == blind["few_shot"] == blind["knn"] == pytest.approx(1 / 6)


def test_windows_hold_the_object_and_its_class(build: Callable[..., ObjectProbe]) -> None:
    data = build(image_size=48).load()
    assert data.train.pixel_labels is not None
    for label, region, classes in zip(data.train.labels, data.train.regions, data.train.pixel_labels, strict=True):
        assert region.any()
        assert (classes[region] == label).float().mean() > 0.8  # objects may hide each other
    boxes = build(image_size=48, region="box").load()
    assert (boxes.train.regions.sum((1, 2)) >= data.train.regions.sum((1, 2))).all()


def test_limits_keep_the_same_objects(build: Callable[..., ObjectProbe]) -> None:
    data, again = (build(per_class=4, val_per_class=2).load() for _ in range(2))
    assert torch.bincount(data.train.labels).tolist() == [4] * 6
    assert torch.bincount(data.val.labels).tolist() == [2] * 6
    assert torch.equal(data.train.pixels, again.train.pixels)


def test_all_taps_stand_side_by_side(build: Callable[..., ObjectProbe]) -> None:
    """Of two maps each of which knows one channel, both tell more than one."""

    def halves(images: Tensor) -> list[Tensor]:
        return [colours(images)[:, :1], torch.zeros_like(colours(images))]

    assert build(taps="last").score(halves)["linear"] < build(taps="all").score(halves)["linear"]


def test_one_class_is_told_from_background(build: Callable[..., ObjectProbe]) -> None:
    scores = build(classes=["ship"]).score(colours)
    assert scores.keys() == {"tokens"}
    assert scores["tokens"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 1000}, r"probes\[objects\].shots is 1000, but class '[a-z ]+' has fewer training objects, \d+;"),
        ({"classes": ["boat"]}, "unknown class in .*'boat'"),
        ({"classes": ["ship"], "tokens": False}, "nothing to tell 'ship' from"),
        ({"train_images": "nowhere"}, r"probes\[objects\].train_images 'nowhere' does not exist"),
        ({"val_annotations": "nowhere.json"}, r"probes\[objects\].val_annotations 'nowhere.json' does not exist"),
        ({"context": 0.5}, r"probes\[objects\].context is 0.5"),
        ({"region": "bix"}, "did you mean box"),
        ({"name": "a/b"}, "use letters"),
        ({"taps": "first"}, "last or all"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    build: Callable[..., ObjectProbe], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        build(**arguments).load()
    assert "\n" not in str(error.value)


def test_an_empty_class_and_a_missing_image(build: Callable[..., ObjectProbe], scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "test" / "annotations.json").read_text())
    court = next(category["id"] for category in content["categories"] if category["name"] == "court")
    content["annotations"] = [record for record in content["annotations"] if record["category_id"] != court]
    without = tmp_path / "without.json"
    without.write_text(json.dumps(content))
    with pytest.raises(UserError, match="class 'court' has no validation object; leave it out of `classes`"):
        build(val_annotations=str(without)).load()
    with pytest.raises(UserError, match=r"probe 'objects': image .* does not exist"):
        build(val_images=str(tmp_path)).load()


def test_more_classes_than_a_byte_tells_are_probed_without_tokens(
    build: Callable[..., ObjectProbe], scenes: Path, tmp_path: Path
) -> None:
    """Every object has a class of its own name."""
    content = json.loads((scenes / "train" / "annotations.json").read_text())
    content["annotations"] = [
        {**content["annotations"][number % len(content["annotations"])], "id": number + 1, "category_id": number + 1}
        for number in range(300)
    ]
    content["categories"] = [{"id": number + 1, "name": f"class {number}"} for number in range(300)]
    many = tmp_path / "many.json"
    many.write_text(json.dumps(content))
    files = {f"{split}_annotations": str(many) for split in ("train", "val")}
    files["val_images"] = str(scenes / "train" / "images")
    with pytest.raises(UserError, match=r"at most 254 classes, and there are 300; set .*tokens to false"):
        build(**files, shots=None).load()
    data = build(**files, shots=None, tokens=False).load()
    assert data.train.pixel_labels is None
    assert sorted(data.train.labels.tolist()) == list(range(300))
