"""Tiles of an image or of a raster of labels as files of their own, with the values that the large file stores.

Photos of 8 bits (JPEG, PNG, WebP, BMP) become PNG, upright as they are read. Every other raster is read by windows, so
it may be of any size, and becomes GeoTIFF of the same bands and type, with its place on the ground.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from distill.data.images import photo_size, read_photo
from distill.data.rasters import BrokenImage, opened, tiff_orientation
from distill.data.tiling import Tile

_TYPES_OF_PHOTOS = ("1", "L", "LA", "P", "RGB", "RGBA")


class TileFiles:
    """An open image that tiles are cut from.

    Attributes:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        suffix: Of the files that tiles become.
    """

    height: int
    width: int
    suffix: str

    def values(self, tile: Tile) -> NDArray[Any]:
        """The stored values of a tile: (B, H, W) in the file's type; indices where it has a palette."""
        raise NotImplementedError

    def holds_data(self, tile: Tile) -> bool:
        """Whether a pixel of a tile is data, by nodata, mask or transparency."""
        raise NotImplementedError

    def write(self, tile: Tile, path: Path) -> None:
        """Writes a tile as a file."""
        raise NotImplementedError


@contextmanager
def open_tiles(path: Path) -> Iterator[TileFiles]:
    """Opens an image to cut tiles from it.

    Raises:
        BrokenImage: It cannot be opened, or read inside; or a tag turns a raster.
    """
    photo, orientation = read_photo(path)
    if photo is not None:
        yield _Photo(photo)
        return
    orientation = tiff_orientation(path) or orientation
    if orientation != 1:
        raise BrokenImage(
            f"image {str(path)!r} is turned by its orientation tag ({orientation}), so it cannot be cut by windows; "
            "save it upright first"
        )
    with opened(path) as dataset:
        yield _Raster(path, dataset)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image that tiles can be cut from, by its header alone.

    Raises:
        BrokenImage: It cannot be opened.
    """
    size = photo_size(path)
    if size is None:
        with opened(path) as dataset:
            size = dataset.height, dataset.width
    return size


class _Photo(TileFiles):
    """An image that Pillow reads, whole in memory."""

    suffix = ".png"

    def __init__(self, image: Image.Image) -> None:
        self._image = image if image.mode in _TYPES_OF_PHOTOS else image.convert("RGB")
        self.width, self.height = self._image.size

    def values(self, tile: Tile) -> NDArray[Any]:
        values = np.asarray(self._cropped(tile))
        return np.moveaxis(values.reshape(*values.shape[:2], -1), 2, 0)

    def holds_data(self, tile: Tile) -> bool:
        return True

    def write(self, tile: Tile, path: Path) -> None:
        cropped = self._cropped(tile)
        cropped.info = {key: value for key, value in cropped.info.items() if key == "transparency"}
        cropped.save(path, format="PNG", compress_level=1)  # four times as fast as the default, a sixth larger

    def _cropped(self, tile: Tile) -> Image.Image:
        return self._image.crop((tile.left, tile.top, tile.left + tile.width, tile.top + tile.height))


class _Raster(TileFiles):
    """An image that GDAL reads by windows."""

    suffix = ".tif"

    def __init__(self, path: Path, dataset: Any) -> None:
        if not dataset.count:
            raise BrokenImage(f"image {str(path)!r} holds no image of its own, only parts; extract one of them first")
        self._dataset = dataset
        self.height, self.width = dataset.height, dataset.width
        flags = dataset.mask_flag_enums
        self._masked = any(MaskFlags.all_valid not in flag for flag in flags)
        # A mask of its own, beside the values; nodata and an alpha band are among the values.
        self._own_mask = any(MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags)

    def values(self, tile: Tile) -> NDArray[Any]:
        values: NDArray[Any] = self._dataset.read(window=_window(tile))
        return values

    def holds_data(self, tile: Tile) -> bool:
        return not self._masked or bool(self._dataset.read_masks(window=_window(tile)).any())

    def write(self, tile: Tile, path: Path) -> None:
        source, values = self._dataset, self.values(tile)
        structure = source.tags(ns="IMAGE_STRUCTURE") | source.tags(1, ns="IMAGE_STRUCTURE")
        options = {"nbits": structure["NBITS"]} if "NBITS" in structure else {}
        if structure.get("MINISWHITE") == "YES":
            options["photometric"] = "MINISWHITE"
        elif source.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue):
            options["photometric"] = "RGB"
        try:
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(
                    path,
                    "w",
                    driver="GTiff",
                    dtype=values.dtype,
                    count=len(values),
                    height=tile.height,
                    width=tile.width,
                    nodata=source.nodata,
                    crs=source.crs,
                    transform=_place(source.crs, source.transform, tile),
                    compress="deflate",
                    zlevel=1,
                    **options,
                ) as target,
            ):
                if "photometric" not in options or options["photometric"] == "RGB":
                    target.colorinterp = source.colorinterp
                if source.colorinterp[0] == ColorInterp.palette:
                    target.write_colormap(1, source.colormap(1))
                target.scales, target.offsets, target.units = source.scales, source.offsets, source.units
                target.descriptions = source.descriptions
                target.write(values)
                if self._own_mask:
                    target.write_mask(source.dataset_mask(window=_window(tile)))
        except RasterioError as error:
            raise OSError(str(error.__cause__ or error)) from error


def _place(crs: Any, whole: Affine, tile: Tile) -> Affine | None:
    """The transform of a tile of an image; None where the image has no place."""
    if crs is None and whole.is_identity:
        return None
    a, b, c, d, e, f = whole[:6]
    return Affine(a, b, a * tile.left + b * tile.top + c, d, e, d * tile.left + e * tile.top + f)


def _window(tile: Tile) -> Window:
    return Window(tile.left, tile.top, tile.width, tile.height)
