"""Folders of unlabelled images: views, split, broken files."""

import logging
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from distill.data import ImageFolder
from distill.data.sample_key import SampleKey
from distill.data.views.folder import FolderViews, centre_view
from distill.errors import UserError
from tests.data.published import shared

TRANSFORM = rasterio.Affine(10, 0, 5e5, 0, -10, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(12):
        height, width = rng.integers(10, 60, 2)
        path = tmp_path / f"part{number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return tmp_path


def _batches(data: ImageFolder) -> list[dict[str, Any]]:
    return list(data.train_dataloader())


def test_batches(folder: Path) -> None:
    data = ImageFolder(str(folder), image_size=24, batch_size=3, val_fraction=0.2, num_workers=0)
    batches = _batches(data)
    for batch in batches:
        assert batch["image"].shape == (3, 3, 24, 24)
        assert batch["image"].dtype == torch.float32
        assert 0 <= batch["image"].min() < batch["image"].max() <= 1
        assert [data.dataset("train").paths[i].name for i in batch["index"]] == [Path(p).name for p in batch["path"]]
    paths = [path for batch in batches for path in batch["path"]]
    assert len(set(paths)) == len(paths)
    validation = [path for batch in data.val_dataloader() for path in batch["path"]]
    assert validation
    assert not set(paths) & set(validation)


def test_views_are_a_function_of_seed_epoch_and_image(folder: Path) -> None:
    def images(seed: int, workers: int) -> torch.Tensor:
        data = ImageFolder(str(folder), image_size=16, batch_size=4, num_workers=workers, seed=seed)
        return torch.cat([batch["image"] for batch in _batches(data)])

    assert torch.equal(images(0, 0), images(0, 2))
    assert not torch.equal(images(0, 0), images(1, 0))


@pytest.mark.parametrize(
    ("flip", "turns", "count"), [(False, False, 1), (True, False, 4), (False, True, 4), (True, True, 8)]
)
def test_epochs_differ_and_the_orientations_asked_for_occur(
    tmp_path: Path, flip: bool, turns: bool, count: int
) -> None:
    ramp = np.add.outer(np.arange(32) * 2, np.arange(32) * 5).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    views = FolderViews(tmp_path, [tmp_path / "a.png"], 16, "raise", crop_area=(0.9, 1.0), flip=flip, turns=turns)
    signs = set()
    for epoch in range(60):
        image = views[SampleKey(0, epoch)]["image"][0]
        down, right = (image[-1] - image[0]).mean(), (image[:, -1] - image[:, 0]).mean()
        signs.add((bool(down > 0), bool(right > 0), bool(down.abs() > right.abs())))
    assert len(signs) == count


def test_turns_follow_flip_unless_they_are_set(folder: Path) -> None:
    """As before they were two keys: a recipe with `flip: false` alone neither mirrors nor turns."""
    given: list[dict[str, bool]] = [{}, {"flip": False}, {"flip": False, "turns": True}, {"turns": False}]
    found = [ImageFolder(str(folder), **arguments) for arguments in given]
    assert [(data.flip, data.turns) for data in found] == [(True, True), (False, False), (False, True), (True, False)]


def test_a_limit_of_training_images_is_nested(folder: Path) -> None:
    def names(limit: int | None) -> list[str]:
        data = ImageFolder(str(folder), train_limit=limit, val_fraction=0.2, seed=1).dataset("train")
        return [data.name(index) for index in range(len(data))]

    assert names(2) == names(4)[:2]
    assert set(names(4)) < set(names(None))


def test_validation_view_is_the_resized_centre(tmp_path: Path) -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    views = FolderViews(tmp_path, [tmp_path / "a.png"], 20, "raise")
    image = views[0]["image"]
    assert image.shape == (3, 20, 20)
    assert image[:, :, 1:-1].min() == 1
    assert torch.equal(image, views[0]["image"])


def test_split_by_name_is_stable_when_images_are_added(folder: Path) -> None:
    def held_out() -> set[str]:
        data = ImageFolder(str(folder), val_fraction=0.3)
        data.setup("fit")
        return {path.relative_to(folder).as_posix() for path in data.dataset("val").paths}

    before = held_out()
    assert before
    for number in range(20, 40):
        Image.new("RGB", (4, 4)).save(folder / f"{number}.png")
    assert before == {name for name in held_out() if "part" in name}


def test_validation_folder_limit_and_none(folder: Path) -> None:
    own = ImageFolder(str(folder / "part0"), val_root=str(folder / "part1"), val_limit=2, image_size=8)
    assert [len(batch["path"]) for batch in own.val_dataloader()] == [2]
    assert len(own.dataset("train")) == 4
    assert ImageFolder(str(folder), val_fraction=0).val_dataloader() == []


def test_one_broken_image_is_skipped_named_once_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    victim = folder / "part1" / "4.png"
    victim.write_bytes(victim.read_bytes()[:100])
    data = ImageFolder(str(folder), image_size=8, batch_size=4, val_fraction=0, num_workers=0)
    loader = data.train_dataloader()
    with caplog.at_level(logging.WARNING):
        epochs = [[path for batch in loader for path in batch["path"]] for _ in range(3)]
        data.teardown("fit")
    assert all(len(paths) == 12 and "part1/4.png" not in paths for paths in epochs)
    assert sum("4.png" in message for message in caplog.messages) == 1
    assert "skipped 1 of 12 images" in caplog.messages[-1]
    assert data.skipped == ["part1/4.png"]


def test_workers_report_broken_images(folder: Path) -> None:
    (folder / "part1" / "4.png").write_bytes(b"")
    data = ImageFolder(str(folder), image_size=8, batch_size=4, val_fraction=0, num_workers=2)
    assert [batch["image"].shape[0] for batch in _batches(data)] == [4, 4, 4]
    assert data.skipped == ["part1/4.png"]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_can_stop_training(folder: Path, workers: int) -> None:
    (folder / "part1" / "4.png").write_bytes(b"x")
    data = ImageFolder(str(folder), image_size=8, val_fraction=0, num_workers=workers, on_error="raise")
    with pytest.raises(UserError, match=r"^image '[^\n]*4\.png' is not an image in a known format$"):
        _batches(data)


def test_only_broken_images(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    data = ImageFolder(str(tmp_path), num_workers=0)
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"all 1 images are broken; the first: image .*[ab]\.png' is an empty file$"
        ):
            _batches(data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size is 0; it must be 1 or more"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"num_workers": -1}, "num_workers is -1; it must be 0 or more"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"val_limit": 0}, "val_limit is 0"),
        ({"seed": 10**20}, "seed is 100000000000000000000; it must lie in 0 to 4294967295"),
        ({"crop_area": (0.5, 0.1)}, r"crop_area is \[0.5, 0.1\]; it must be \[min, max\]"),
        ({"crop_area": (0.5, 1.5)}, "max <= 1"),
        ({"on_error": "ignore"}, "unknown on_error policy 'ignore'.*skip, raise"),
    ],
)
def test_bad_arguments(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageFolder(str(folder), **arguments).setup("fit")


def test_real_images() -> None:
    root = shared("unlabelled/images")
    data = ImageFolder(str(root), image_size=64, batch_size=8, num_workers=0, on_error="raise")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 64, 64)
    assert len(data.dataset("train")) + len(data.dataset("val")) == 112


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(("short", "long"), [(1, 31), (3, 100), (7, 99), (20, 400), (150, 1301), (64, 500)])
def test_the_view_of_a_sliver_is_its_resized_centre(short: int, long: int, size: int) -> None:
    """Against torch's resize of the whole in floats: in bytes it misreads some images that are one pixel wide."""
    rng = torch.Generator().manual_seed(0)
    for shape in ((3, short, long), (3, long, short)):
        pixels = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
        whole = F.center_crop(F.resize(pixels.float(), [size], antialias=True), [size, size])
        assert (centre_view(pixels, size) - whole).abs().max() <= 1.5
    ordinary = torch.randint(0, 256, (3, 40, 300), generator=rng, dtype=torch.uint8)
    before = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    assert torch.equal(centre_view(ordinary, size), before(ordinary))


def test_a_sliver_takes_the_memory_of_its_view() -> None:
    """Resized whole, each of these would take more than 4 GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for height, width in ((1, 3000), (20, 10_000), (3000, 4)):
        assert centre_view(torch.zeros((3, height, width), dtype=torch.uint8), 512).shape == (3, 512, 512)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_single_image_trains_and_nothing_validates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "scene_017.png"  # one whose hash is below val_fraction
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    data = ImageFolder(str(tmp_path), image_size=8, batch_size=2, val_fraction=0.5, num_workers=0)
    assert [batch["path"] for batch in _batches(data)] == [[name]]
    assert data.val_dataloader() == []
    assert caplog.messages == [
        f"'{name}' is the only image below {str(tmp_path)!r}: it is trained on, and nothing is validated; give "
        "data.val_root",
        "data.batch_size is 2, but there is only 1 training image: a batch holds no more",
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_bands_and_orientations_are_said_once(tmp_path: Path, workers: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"driver": "GTiff", "width": 20, "height": 10, "count": 4, "dtype": "uint16", "photometric": "RGB"}
    for number in range(4):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{number}.jpg", exif=exif)
        with rasterio.open(tmp_path / f"{number}.tif", "w", alpha="NO", transform=TRANSFORM, **options) as dataset:
            dataset.write(np.arange(800, dtype=np.uint16).reshape(4, 10, 20))
    handler = logging.FileHandler(tmp_path / "said.log")  # workers are other processes, which write to it too
    logger = logging.getLogger("distill.data.reader")
    logger.addHandler(handler)
    data = ImageFolder(str(tmp_path), image_size=8, batch_size=8, val_root=str(tmp_path), num_workers=workers)
    assert [batch["image"].shape[0] for _ in range(2) for batch in _batches(data)] == [8, 8]
    assert len(list(data.val_dataloader())) == 1
    data.teardown("fit")
    logger.removeHandler(handler)
    said = (tmp_path / "said.log").read_text()
    assert said.count("has 4 bands, of which 1, 2, 3 are shown as red, green, blue") == 1
    assert said.count("is turned upright by its EXIF orientation") == 1
    for part in ("train", "val"):
        assert f"turned 4 of 8 {part} images upright" in said


def test_chosen_bands(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    data = ImageFolder(str(tmp_path), image_size=8, val_root=str(tmp_path), num_workers=0, bands=[3, 1, 2])
    (batch,) = data.val_dataloader()
    assert torch.equal((batch["image"][0] * 255).byte().permute(1, 2, 0), torch.from_numpy(pixels[:, :, [2, 0, 1]]))
    for bands in ([], [0], [1, 2, 3, 4]):
        with pytest.raises(UserError, match=r"bands is \[.*\]; give one to three band numbers, counted from 1"):
            ImageFolder(str(tmp_path), bands=bands)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_nothing_but_broken_images_is_one_error(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        (tmp_path / f"{number}.tif").write_bytes(b"no image")
    data = ImageFolder(str(tmp_path), val_fraction=0, num_workers=workers)
    with pytest.raises(UserError, match=r"^all 30 images are broken; the first: image '.*0\.tif' is not an image"):
        _batches(data)
    assert caplog.text + capfd.readouterr().err == ""
