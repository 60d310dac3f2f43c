"""What values of masks mean: indices, colours, palettes, nodata, and values that nobody listed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from distill.data.class_table import IGNORE, ClassTable
from distill.errors import UserError
from tests.data.landcover import COLOURS, INDICES, blocks, painted


def raster(path: Path, values: np.ndarray) -> None:
    height, width = values.shape
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 0)
    with rasterio.open(path, "w", "GTiff", width, height, 1, dtype=values.dtype, transform=transform) as dataset:
        dataset.write(values, 1)


def test_palettes_are_indices_or_colours_as_the_table_says(tmp_path: Path) -> None:
    labels = blocks(0)
    mask = Image.fromarray(np.minimum(labels, 3))
    mask.putpalette([*np.array(list(COLOURS.values())).flatten().tolist(), 0, 0, 0])
    assert mask.mode == "P"
    mask.save(tmp_path / "mask.png")
    by_colour = ClassTable(COLOURS, [[0, 0, 0]]).read(tmp_path / "mask.png")
    by_index = ClassTable(INDICES, [3]).read(tmp_path / "mask.png")
    assert torch.equal(by_colour, torch.from_numpy(labels))
    assert torch.equal(by_index, by_colour)


def test_an_unknown_value_is_named_with_pixel_and_file(tmp_path: Path) -> None:
    mask = painted(blocks(0))
    mask[3, 5] = [1, 2, 3]
    mask[4, 0] = [255, 255, 255]
    Image.fromarray(mask).save(tmp_path / "bad.png")
    with pytest.raises(UserError, match=r"bad.png' has the colour \[1, 2, 3\] at pixel x=5 y=3 \(2 such pixels\)"):
        ClassTable(COLOURS, [[0, 0, 0]]).read(tmp_path / "bad.png")
    for value in (7, 5 - 2**31):
        Image.fromarray(np.array([[0, 1], [2, value]], np.int32)).save(tmp_path / "bad.tif")
        with pytest.raises(UserError, match=rf"bad.tif' has the value {value} at pixel x=1 y=1"):
            ClassTable(INDICES, [IGNORE]).read(tmp_path / "bad.tif")
    with pytest.raises(UserError, match="is a colour image"):
        ClassTable(INDICES).read(tmp_path / "bad.png")
    with pytest.raises(UserError, match="is a grey or single-band image"):
        ClassTable(COLOURS).read(tmp_path / "bad.tif")


@pytest.mark.parametrize(
    ("classes", "ignore", "message"),
    [
        ({"a": 0}, [], "has 1 names"),
        ({"a": 0, "b": 0}, [], "value 0 is listed twice"),
        ({"a": 0, "b": 1}, [1], "value 1 is listed twice"),
        ({"a": 0, "b": [0, 0, 0]}, [], "mix indices with colours"),
        ({"a": [0, 0, 0], "b": [1, 1, 1]}, [255], "mix indices with colours"),
        ({"a": [0, 0, 0], "b": [0, 256, 0]}, [], "is not three numbers"),
        ({"a": [0, 0, 0], "b": [0, 1]}, [], "is not three numbers"),
        ({"a": 0, "b": -1}, [], "is not in 0 to 65535"),
    ],
)
def test_class_tables_that_cannot_be(classes: dict[str, Any], ignore: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassTable(classes, ignore)


def test_negative_and_float_masks_are_indices(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, -9999]])
    for dtype in (np.int16, np.int32, np.float32):
        raster(tmp_path / "mask.tif", labels.astype(dtype))
        with pytest.raises(UserError, match=r"mask\.tif' has the value -9999 at pixel x=1 y=1 \(1 such pixels\)"):
            ClassTable(INDICES, [IGNORE]).read(tmp_path / "mask.tif")
        assert ClassTable(INDICES, [-9999]).read(tmp_path / "mask.tif").tolist() == [[0, 1], [2, IGNORE]]
    raster(tmp_path / "mask.tif", np.array([[0, 1], [2, 2**32 - 1]], np.uint32))
    assert ClassTable(INDICES, [2**32 - 1]).read(tmp_path / "mask.tif").tolist() == [[0, 1], [2, IGNORE]]
    for value, named in ((np.nan, "nan"), (0.5, "0.5"), (-3.4e38, "-3.4e[+]38")):
        raster(tmp_path / "mask.tif", np.array([[0, 1], [2, value]], np.float32))
        with pytest.raises(UserError, match=rf"has the value {named} at pixel x=1 y=1 .* a class is a whole number"):
            ClassTable(INDICES, [IGNORE]).read(tmp_path / "mask.tif")
