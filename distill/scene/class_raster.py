"""Land cover of a scene as a GeoTIFF with colours, class names and overviews.

Rows are written as they come, to a tiled GeoTIFF beside the result. At the end GDAL copies it into a cloud-optimised
GeoTIFF, whose overviews GDAL can make only then. Confidences get a file of their own: a TIFF has a colour table only if
it has no second band, one value for no data, and one way to make overviews.

Axes: h W pixels of a block, H W pixels of the scene.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # some functions raise it bare
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window

from distill.colours import class_rgb
from distill.errors import UserError
from distill.scene.georeference import Georeference
from distill.scene.mosaic import ClassBlock
from distill.scene.mosaic_file import NO_DATA

_SIDE = 512  # of the blocks of the files, in pixels
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_CACHEMAX": 16 << 20}  # bytes: a row of blocks
_COG = {"driver": "COG", "compress": "DEFLATE", "blocksize": _SIDE, "bigtiff": "IF_SAFER"}


class ClassRasterWriter:
    """Writes a class map, and confidences if wanted, as cloud-optimised GeoTIFFs.

    Labels are uint8, 255 where there is no data, with a colour table and overviews by the most frequent class. Class
    names are metadata of the band (`CLASS_0`, ...) and, where QGIS and GDAL look for them, category names in
    `PATH.aux.xml`. Confidences are uint8, 1 to 255 for a probability up to 1 (the scale of the band says so), 0 where
    there is no data.

    Args:
        path: Of the class map.
        height: Of the scene, in pixels.
        width: Of the scene, in pixels.
        class_names: In the order of the labels.
        georeference: Of the scene; without, the file has pixel coordinates.
        confidence: Path of the file with confidences; None if not wanted.

    Raises:
        UserError: A file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        class_names: Sequence[str],
        georeference: Georeference | None,
        confidence: Path | None = None,
    ) -> None:
        self._path, self._confidence_path, self._names = path, confidence, list(class_names)
        self._labels = _TiledFile(path, height, width, georeference, NO_DATA)
        self._confidence: _TiledFile | None = None
        try:
            self._labels.describe("class", {f"CLASS_{label}": name for label, name in enumerate(self._names)})
            self._labels.colour(len(self._names))
            if confidence is not None:
                self._confidence = _TiledFile(confidence, height, width, georeference, 0)
                self._confidence.describe("confidence", {}, scale=1 / 255)
        except UserError:
            self.discard()
            raise

    def write(self, block: ClassBlock) -> None:
        """Takes the next block, from top to bottom.

        Raises:
            UserError: A file cannot be written.
        """
        self._labels.write(block.labels)
        if self._confidence is not None:
            if block.confidence is None:
                raise ValueError("confidences are to be written, and the block has none")
            self._confidence.write(block.confidence)

    def close(self) -> list[Path]:
        """Makes the files.

        Returns:
            All that were written: the class map, its `.aux.xml`, and the confidences.

        Raises:
            UserError: A file cannot be written; none is left.
        """
        files = [self._path, sidecar(self._path)]
        try:
            self._labels.finish(predictor="NO", overview_resampling="MODE")  # a predictor makes labels 20 % larger
            with _writing(files[1]):
                files[1].write_text(_category_names(self._names), encoding="utf-8")
            if self._confidence is not None and self._confidence_path is not None:
                files.append(self._confidence_path)
                self._confidence.finish(predictor="YES", overview_resampling="AVERAGE")
        except UserError:
            for file in files:
                if file.is_file():
                    file.unlink()
            raise
        finally:
            self.discard()
        return files

    def discard(self) -> None:
        """Removes what lies beside the results."""
        self._labels.discard()
        if self._confidence is not None:
            self._confidence.discard()


class _TiledFile:
    """A raster of one band that is written row by row, then copied."""

    def __init__(self, path: Path, height: int, width: int, georeference: Georeference | None, no_data: int) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.name}.tiled.tif")
        self._rows = np.empty((min(_SIDE, height), width), np.uint8)
        self._filled = self._written = 0
        place: dict[str, Any] = {}
        if georeference is not None:
            place["transform"] = rasterio.Affine(*georeference.transform)
            if georeference.wkt is not None:
                place["crs"] = rasterio.crs.CRS.from_wkt(georeference.wkt)
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._dataset = rasterio.open(
                self._temporary.absolute(),
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=1,
                dtype="uint8",
                nodata=no_data,
                tiled=True,
                blockxsize=_SIDE,
                blockysize=_SIDE,
                compress="deflate",
                zlevel=1,
                bigtiff="if_safer",
                **place,
            )

    def describe(self, name: str, tags: dict[str, str], scale: float = 1) -> None:
        with _writing(self._path):
            self._dataset.set_band_description(1, name)
            self._dataset.update_tags(1, **tags)
            if scale != 1:
                self._dataset.scales = (scale,)

    def colour(self, count: int) -> None:
        colours = np.rint(class_rgb(count) * 255).astype(int).tolist()
        with _writing(self._path):
            table = {label: (*colour, 255) for label, colour in enumerate(colours)}
            self._dataset.write_colormap(1, {**table, NO_DATA: (0, 0, 0, 0)})

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Takes rows of any number; whole blocks go to the file, so that none is compressed twice."""
        while len(rows):
            taken = min(len(rows), len(self._rows) - self._filled)
            self._rows[self._filled : self._filled + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._filled == len(self._rows):
                self._flush()

    def finish(self, **options: str) -> None:
        self._flush()
        if self._written != self._dataset.height:
            raise ValueError(f"{self._written} of {self._dataset.height} rows were written")
        with _writing(self._path):
            self._dataset.close()
            copy(self._temporary.absolute(), self._path.absolute(), strict=True, **_COG, **options)

    def discard(self) -> None:
        self._dataset.close()
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._filled:
            window = Window(0, self._written, self._dataset.width, self._filled)
            with _writing(self._path):
                self._dataset.write(self._rows[: self._filled], 1, window=window)
        self._written, self._filled = self._written + self._filled, 0


def raster_bytes(height: int, width: int, confidence: bool) -> int:
    """Most bytes that writing takes on the disk: the tiled files, and the results with their overviews."""
    layers = 2 if confidence else 1
    return layers * height * width + (layers * height * width * 4) // 3 + height * width // 3


def sidecar(path: Path) -> Path:
    """The file beside a raster in which GDAL looks for category names."""
    return path.with_name(f"{path.name}.aux.xml")


def _category_names(names: Sequence[str]) -> str:
    """The content of a sidecar.

    Source: GDAL's persistent auxiliary metadata (PAM).
    """
    lines = [f"      <Category>{escape(name)}</Category>" for name in names]
    head = ["<PAMDataset>", '  <PAMRasterBand band="1">', "    <CategoryNames>"]
    return "\n".join([*head, *lines, "    </CategoryNames>", "  </PAMRasterBand>", "</PAMDataset>", ""])


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """GDAL with a bounded cache, quietly.

    Raises:
        UserError: What happens inside fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.Env(**_GDAL):
                yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        reason = str(error.__cause__ or error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{path} cannot be written ({reason}); free space or permit writing there, or name another place"
        ) from error
