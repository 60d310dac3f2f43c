"""The pixels of rasters: whatever GDAL reads, of any number of bands and any type of number.

Axes: B bands, H W pixels as shown: upright, see `turn_upright`.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio.enums import ColorInterp, MaskFlags, WktVersion
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from distill.data.packed import PackedFile, Source
from distill.data.records import LARGEST_IMAGE
from distill.errors import UserError

# Warnings of libtiff about unknown tags; a file that cannot be read raises an exception.
logging.getLogger("rasterio").setLevel(logging.CRITICAL)

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# Without a listing, files beside the image (.aux.xml, .msk) are asked for by name: a folder may hold 100,000 images.
# The cache of decoded blocks, in bytes, takes a share of the machine's memory by default.
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_CACHEMAX": 64 << 20}
_ONLY: ContextVar[str | None] = ContextVar("only_driver", default=None)


class BrokenImage(UserError):
    """A file that should be an image and cannot be decoded; the message names the file and the reason."""


@dataclass(frozen=True)
class Stored:
    """The stored values of an image file.

    Args:
        values: Of the bands wanted (B, H, W), in the file's type; a transparency is no band.
        palette: Colours (N, 3) uint8 that a single band points into; None where values are colours themselves.
        valid: Which values (B, H, W) are data; None where all are.
        turned: Whether the file's orientation is another than upright.
        left_out: What of its bands is shown and what is not, as part of a sentence; empty if there is nothing to say.
    """

    values: NDArray[Any]
    palette: NDArray[np.uint8] | None = None
    valid: NDArray[np.bool_] | None = None
    turned: bool = False
    left_out: str = ""


class Raster:
    """An opened raster, read by windows of pixels as stored; an orientation is not applied. For one thread.

    Attributes:
        height: In pixels as stored, as all that follows.
        width: In pixels.
        block: Height and width of the rectangles that the file is stored in.
        dtype: Of the values that `read` gives.
        may_lack_data: Whether a nodata value, a mask, a transparency or a floating-point type can say "no data".
        palette: See `Stored`.
        left_out: See `Stored`.
        driver: GDAL's name of the format.
        orientation: Of EXIF or TIFF, 1 to 8; 1 is upright. GDAL does not say that of PNG and WebP.
        transform: (a, b, c, d, e, f) of (x, y) = (a column + b row + c, d column + e row + f), pixel corners at whole
            numbers; None where the file has none.
        crs: WKT of the coordinate system; None where the file has none.
        control: What places the raster instead of a transform, in words; empty if nothing does.
    """

    def __init__(self, path: Source, dataset: Any, bands: Sequence[int] | None, key: str) -> None:
        self.path, self._dataset, self._asked = path, dataset, (bands, key)
        if not dataset.count:
            raise BrokenImage(f"image {str(path)!r} holds no image of its own, only parts; extract one of them first")
        self.height, self.width, self.driver = dataset.height, dataset.width, dataset.driver
        shown, self.left_out = choose_bands(path, dataset.colorinterp, bands, key)
        if any("complex" in dataset.dtypes[band - 1] for band in shown):
            raise BrokenImage(
                f"image {str(path)!r} has complex values ({dataset.dtypes[shown[0] - 1]}); save amplitude or intensity"
            )
        if ColorInterp.cyan in dataset.colorinterp and bands is None:  # GDAL converts those of 8 bits
            raise BrokenImage(f"image {str(path)!r} has CMYK colours of {dataset.dtypes[0]}; save it as RGB")
        self._bands = list(dict.fromkeys(shown))
        self._order = [self._bands.index(band) for band in shown]
        self._stored = np.result_type(*(np.dtype(dataset.dtypes[band - 1]) for band in self._bands))
        self.block = dataset.block_shapes[self._bands[0] - 1]
        self._inspect(dataset)
        self.palette = None
        if shown == [1] and dataset.colorinterp[0] == ColorInterp.palette:
            table = dataset.colormap(1)
            self.palette = np.zeros((np.iinfo(self._stored).max + 1, 3), np.uint8)
            self.palette[list(table)] = [colour[:3] for colour in table.values()]
        exif = dataset.tags().get("EXIF_Orientation", "")
        self.orientation = tiff_orientation(path) or (int(exif) if exif.isdigit() else 1)
        self.transform = None if dataset.transform.is_identity else tuple(dataset.transform)[:6]
        self.crs = dataset.crs.to_wkt(version=WktVersion.WKT2_2019) if dataset.crs else None
        self.control = "ground control points" if dataset.gcps[0] else "rational polynomials" if dataset.rpcs else ""

    def _inspect(self, dataset: Any) -> None:
        """How the file writes values, and what it says of those that are no data."""
        flags = [dataset.mask_flag_enums[band - 1] for band in self._bands]
        self._masked = any(MaskFlags.all_valid not in flag for flag in flags)
        self._one_mask = all(MaskFlags.per_dataset in flag for flag in flags)
        structure = dataset.tags(ns="IMAGE_STRUCTURE"), dataset.tags(self._bands[0], ns="IMAGE_STRUCTURE")
        plain = dataset.colorinterp[self._bands[0] - 1] != ColorInterp.palette and self._stored.kind == "u"
        self._bits = int(structure[1].get("NBITS", 8 * self._stored.itemsize)) if plain else 8 * self._stored.itemsize
        self._inverted = plain and structure[0].get("MINISWHITE") == "YES"
        scales = np.array([(dataset.scales[band - 1], dataset.offsets[band - 1]) for band in self._bands])
        self._scales = scales if self._stored != np.uint8 and (scales != (1, 0)).any() else None
        self.dtype = self._stored if self._scales is None else np.result_type(self._stored, scales)
        self.may_lack_data = self._masked or self.dtype.kind == "f"

    def read(self, top: int, left: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Values of a window inside the raster, and which of them are data; as in `Stored`.

        Raises:
            BrokenImage: The file is damaged there.
        """
        window = Window(left, top, width, height)
        part = (height, width) != (self.height, self.width)
        with _explained(self.path, f" in the {width} x {height} pixels from x={left} y={top}" if part else ""):
            values = self._dataset.read(self._bands, window=window, out_dtype=self._stored)
            valid = None
            if self._masked:
                mask = self._dataset.read_masks(self._bands[:1] if self._one_mask else self._bands, window=window)
                valid = np.broadcast_to(mask != 0, values.shape)
        values = self._ordinary(values)
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            valid = finite if valid is None else valid & finite
        if self._order != sorted(set(self._order)):
            values, valid = values[self._order], None if valid is None else valid[self._order]
        return values, valid

    @contextmanager
    def coarser(self, factor: float) -> Iterator["Raster"]:
        """The smallest overview in the file whose pixels are at most `factor` as wide; the raster itself if none is."""
        levels = [number for number, width in enumerate(self._dataset.overviews(self._bands[0])) if width <= factor]
        if not levels:
            yield self
            return
        with open_raster(self.path, *self._asked, overview=levels[-1]) as raster:
            yield raster

    def _ordinary(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values without the file's own ways to write them."""
        if self._inverted:
            values = np.array(2**self._bits - 1, values.dtype) - values
        if values.dtype == np.uint8 and self._bits < 8:
            values = values * np.uint8(255 // (2**self._bits - 1))
        if self._scales is not None:
            values = values * self._scales[:, 0, None, None] + self._scales[:, 1, None, None]
        return values


@contextmanager
def open_raster(
    path: Source, bands: Sequence[int] | None = None, key: str = "data.bands", overview: int | None = None
) -> Iterator[Raster]:
    """Opens a raster through GDAL; of a file of several pages the first.

    Args:
        path: The file.
        bands: Band numbers from 1; by default see `choose_bands`.
        key: What an error calls `bands`.
        overview: Which of the smaller copies in the file is opened, from 0; by default the image itself.

    Raises:
        BrokenImage: It cannot be opened, has complex values, or lacks one of `bands`.
    """
    with rasterio.Env(**_GDAL), ExitStack() as stack:
        with _explained(path):
            level = {} if overview is None else {"overview_level": overview}
            dataset = stack.enter_context(_open(path, **level))
            raster = Raster(path, dataset, bands, key)
        yield raster


def read_raster(
    path: Source, bands: Sequence[int] | None = None, orientation: int = 1, key: str = "data.bands"
) -> Stored:
    """Reads a whole raster through GDAL; of a file of several pages the first.

    Scale and offset are applied. Values are data where neither nodata, a mask nor transparency says otherwise, and
    where they are finite.

    Args:
        path: The file.
        bands: Band numbers from 1; by default see `choose_bands`.
        orientation: Of EXIF, where GDAL does not know it; that of TIFF files is looked up here.
        key: What an error calls `bands`.

    Raises:
        BrokenImage: It cannot be read, has complex values, or lacks one of `bands`.
    """
    with open_raster(path, bands, key) as raster:
        if raster.width * raster.height > LARGEST_IMAGE:
            raise BrokenImage(
                f"image {str(path)!r} is too large to decode at once; cut it into tiles first, with `distill data tile`"
            )
        values, valid = raster.read(0, 0, raster.height, raster.width)
        orientation = raster.orientation if raster.orientation != 1 else orientation
    return Stored(
        turn_upright(values, orientation),
        raster.palette,
        None if valid is None else turn_upright(valid, orientation),
        orientation in range(2, 9),
        raster.left_out,
    )


def choose_bands(
    path: Source, meanings: Sequence[ColorInterp], bands: Sequence[int] | None, key: str = "data.bands"
) -> tuple[list[int], str]:
    """Which bands of an image are shown.

    By default red, green and blue where the file says which they are, else the first three without transparency; of
    two bands the first is shown as blue too, and one is grey.

    Args:
        path: For messages.
        meanings: What each band of the file is.
        bands: Numbers from 1 that the user wants instead.
        key: What an error calls them.

    Returns:
        The numbers, one or three, and what there is to say about it; nothing if the user chose, or no band is left out.

    Raises:
        BrokenImage: The file lacks one of `bands`.
    """
    count = len(meanings)
    if bands is not None:
        if max(bands) > count:
            raise BrokenImage(
                f"image {str(path)!r} has {count} band{'s' * (count > 1)}, but {key} is {list(bands)}; name bands "
                "that every image has"
            )
        return _three(list(bands)), ""
    opaque = [number for number, meaning in enumerate(meanings, start=1) if meaning != ColorInterp.alpha]
    if all(colour in meanings for colour in _COLOURS):
        shown = [meanings.index(colour) + 1 for colour in _COLOURS]
    else:
        shown = _three(opaque[:3] or [1])
    if set(shown) >= set(opaque) and len(opaque) != 2:
        return shown, ""
    return shown, f"has {len(opaque)} bands, of which {', '.join(map(str, shown))} are shown as red, green, blue"


def _three(bands: list[int]) -> list[int]:
    """Bands as red, green and blue; a single one stays single, as grey."""
    return [*bands, bands[0]] if len(bands) == 2 else bands


def turn_upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Applies an EXIF orientation, 1 to 8, to the last two axes.

    Source: CIPA DC-008 (Exif 2.32), tag 0x0112, which is TIFF 6.0's tag 274.
    """
    if orientation >= 5:
        values = values.swapaxes(-1, -2)
    axes = tuple(axis for axis, mirrored in ((-1, (2, 3, 6, 7)), (-2, (3, 4, 7, 8))) if orientation in mirrored)
    return np.flip(values, axes) if axes else values


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The dataset of rasterio of a file, for what `Raster` does not tell.

    Raises:
        BrokenImage: It cannot be opened, or read inside.
    """
    with rasterio.Env(**_GDAL), _explained(path), _open(path) as dataset:
        yield dataset


@contextmanager
def only_driver(name: str) -> Iterator[None]:
    """Within the block, this thread opens every raster with one driver of GDAL, in place of the first that knows it.

    A file can be of two formats at once: a photo whose comment is a VRT is a VRT for GDAL, and reads other files.
    """
    token = _ONLY.set(name)
    try:
        yield
    finally:
        _ONLY.reset(token)


def _open(path: Source, **options: Any) -> Any:
    """The dataset of a file, quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # An absolute path is never taken for an address ("s3:a.tif").
        name = path.gdal_name if isinstance(path, PackedFile) else path.absolute()
        return rasterio.open(name, driver=_ONLY.get(), **options)


@contextmanager
def _explained(path: Source, where: str = "") -> Iterator[None]:
    """Errors of GDAL as one line, which says where the file is damaged.

    Raises:
        BrokenImage: The file cannot be opened, or read inside.
    """
    try:
        yield
    except RasterioError as error:
        if "not recognized as being in a supported file format" in str(error):
            raise BrokenImage(f"image {str(path)!r} is not an image in a known format") from error
        reason = str(error.__cause__ or error).splitlines()[0]
        raise BrokenImage(
            f"image {str(path)!r} is damaged{where} ({reason.rpartition(': ')[2].rstrip('.')})"
        ) from error


def tiff_orientation(path: Source) -> int | None:
    """Of the first page of a TIFF file; None where there is none."""
    with path.open("rb") as file:
        header = file.read(8)
        if header[:2] not in (b"II", b"MM"):
            return None
        if 43 in header[2:4]:  # BigTIFF
            header += file.read(8)
        try:
            directory = ImageFileDirectory_v2(header)
            file.seek(directory.next)
            directory.load(file)
            orientation: int | None = directory.get(Base.Orientation)
            return orientation
        except (SyntaxError, OSError, ValueError, KeyError, TypeError):
            return None  # GDAL has read the pixels all the same
