"""Land cover of a scene as polygons that share their borders.

The class map is read twice, in strips. First its patches are found, and small ones join their neighbours. Then each
strip is traced along the edges of its pixels and simplified as a coverage: a border between two polygons is simplified
once, for both. Borders between strips stay as they are while that happens, so that the parts of a patch fit together;
they are joined when its last strip is done. Memory: two strips, what `class_patches` holds, and the simplified parts of
patches that are not complete yet.

Axes: P vertices, R nodes. Coordinates are (column, row) in pixels; the corners of pixels are whole numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import features
from rasterio.windows import Window

from distill.errors import UserError
from distill.scene.class_patches import find_patches
from distill.scene.class_polygon_files import ClassPolygonWriter
from distill.scene.features import DEFAULT_TOLERANCE
from distill.scene.georeference import Georeference
from distill.scene.mosaic_file import NO_DATA
from distill.scene.polygons import Polygons, valid_polygons

_STRIP = 2**22  # pixels that are held at once; not fewer rows than the next number, whatever the width
_LOWEST = 128
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_CACHEMAX": 16 << 20}  # bytes: a row of blocks


def write_class_polygons(
    raster: Path,
    writer: ClassPolygonWriter,
    simplify: float | None = None,
    min_area: float = 0.0,
    strip: int | None = None,
) -> int:
    """Writes the patches of a class map as polygons.

    Args:
        raster: The class map, see `ClassRasterWriter`.
        writer: Takes the polygons; its georeference is that of the scene.
        simplify: How much borders are simplified, in metres if the scene has a CRS, else in pixels: the square root of
            the area of the triangles that are cut off. 0 keeps the edges of pixels, None is 0.75 pixels.
        min_area: Smaller patches, in square metres if the scene has a CRS, else in pixels, take the class with which
            they share the longest border, see `find_patches`.
        strip: Pixel rows that are held at once, by default such that they are four million pixels.

    Returns:
        The number of polygons.

    Raises:
        UserError: A number out of range, or a file that cannot be read or written.
    """
    for name, number in (("simplify", simplify or 0), ("min_area", min_area)):
        if not 0 <= number < float("inf"):
            raise UserError(f"{name} is {number}; it must be 0 or more")
    georeference = writer.georeference
    with _opened(raster) as dataset:
        strip = strip or max(_LOWEST, _STRIP // dataset.width)
        tops = range(0, dataset.height, strip)
        middles = [(top + min(top + strip, dataset.height)) / 2 for top in tops]
        sizes = [_pixel_size(georeference, dataset.width / 2, middle) for middle in middles]
        patches = find_patches(_strips(dataset, strip), [min_area / size**2 for size in sizes])
        open_parts: dict[int, list[shapely.Polygon]] = {}
        count = 0
        images = _with_neighbours(patches.image(number, rows) for number, rows in enumerate(_strips(dataset, strip)))
        for number, (above, image, below) in enumerate(images):
            polygons, owners = _trace(image)
            polygons = _add_nodes(polygons, _nodes(above, image, below), image.shape)
            tolerance = DEFAULT_TOLERANCE if simplify is None else simplify / sizes[number]
            if tolerance:
                polygons = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
            polygons = shapely.transform(polygons, lambda points, top=tops[number]: points + np.array([0, top]))
            shown = patches.labels[owners] != NO_DATA
            whole = patches.first[owners] == patches.last[owners]
            done = dict(zip(owners[shown & whole].tolist(), polygons[shown & whole], strict=True))
            for owner, polygon in zip(owners[shown & ~whole].tolist(), polygons[shown & ~whole], strict=True):
                open_parts.setdefault(owner, []).append(polygon)
            for owner in [owner for owner in open_parts if patches.last[owner] == number]:
                done[owner] = _joined(open_parts.pop(owner))
            order = sorted(done)
            writer.add(patches.labels[order], np.array([done[owner] for owner in order], object))
            count += len(order)
    return count


def _pixel_size(georeference: Georeference | None, x: float, y: float) -> float:
    """In metres; 1 without a CRS."""
    return georeference.pixel_size(x, y) if georeference is not None and georeference.wkt is not None else 1.0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with rasterio.Env(**_GDAL), rasterio.open(path.absolute()) as dataset:
            yield dataset
    except rasterio.errors.RasterioError as error:
        raise UserError(f"class map {path} cannot be read ({error}); predict the scene again") from error


def _strips(dataset: Any, strip: int) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, dataset.height, strip):
        yield dataset.read(1, window=Window(0, top, dataset.width, min(strip, dataset.height - top)))


def _with_neighbours(
    images: Iterator[NDArray[np.int32]],
) -> Iterator[tuple[NDArray[np.int32] | None, NDArray[np.int32], NDArray[np.int32] | None]]:
    """Each image between the last row of the one before and the first row of the one after."""
    above, image = None, next(images)
    for after in images:
        yield above, image, after[0]
        above, image = image[-1].copy(), after
    yield above, image, None


def _trace(image: NDArray[np.int32]) -> tuple[Polygons, NDArray[np.int64]]:
    """The polygons of a strip along the edges of its pixels, and the patch of each."""
    rings, parts = [], []
    owners: list[int] = []
    for shape, value in features.shapes(image, connectivity=4):
        parts += [len(owners)] * len(shape["coordinates"])
        rings += [np.array(ring) for ring in shape["coordinates"]]  # a tenth of the memory of lists of tuples
        owners.append(int(value))
    lines = shapely.linearrings(
        np.concatenate(rings), indices=np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    )
    return valid_polygons(shapely.polygons(lines, indices=parts)), np.array(owners, np.int64)


def _nodes(
    above: NDArray[np.int32] | None, image: NDArray[np.int32], below: NDArray[np.int32] | None
) -> NDArray[np.bool_]:
    """Which corners of pixels (h + 1, W + 1) must be vertices of all polygons that touch them.

    Within a strip, those where three patches or more meet. At its border with another strip, all where patches change
    on either side: joined parts need the same vertices.
    """
    height, width = image.shape
    nodes = np.zeros((height + 1, width + 1), bool)
    right, down = image[:, :-1] != image[:, 1:], image[:-1] != image[1:]
    # Three patches around a corner differ over three or four of the four edges between neighbours.
    changes = right[:-1].astype(np.uint8) + right[1:] + down[:, :-1] + down[:, 1:]
    nodes[1:-1, 1:-1] = changes >= 3
    for row, other, own in ((0, above, right[0]), (height, below, right[-1])):
        if other is not None:
            nodes[row, 1:-1] = own | (other[:-1] != other[1:])
    return nodes


def _add_nodes(polygons: Polygons, nodes: NDArray[np.bool_], shape: tuple[int, int]) -> Polygons:
    """Polygons along edges of pixels, with a vertex wherever they touch a node."""
    kind, points, (rings, parts) = shapely.to_ragged_array(polygons)
    corners = points.astype(np.int64)
    begin, end = corners[:-1], corners[1:]
    steps = end - begin
    steps[rings[1:-1] - 1] = 0  # from the end of a ring to the start of the next
    lines, columns = np.nonzero(nodes)
    added, counts = np.zeros((0, 2), np.int64), np.zeros(len(steps), np.int64)
    places = np.zeros(0, np.int64)
    for axis in (0, 1):
        along, across = (columns, lines) if axis == 0 else (lines, columns)
        span = shape[1 - axis] + 2
        codes = np.sort(across * span + along)
        moving = np.flatnonzero(steps[:, axis])
        line = begin[moving, 1 - axis] * span
        low = np.searchsorted(codes, line + np.minimum(begin[moving, axis], end[moving, axis]), "right")
        high = np.searchsorted(codes, line + np.maximum(begin[moving, axis], end[moving, axis]), "left")
        number = np.maximum(high - low, 0)
        counts[moving] += number
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        forward = np.repeat(steps[moving, axis] > 0, number)
        chosen = codes[np.where(forward, np.repeat(low, number) + within, np.repeat(high - 1, number) - within)]
        new = np.stack([chosen % span, chosen // span], 1)
        added = np.concatenate([added, new if axis == 0 else new[:, ::-1]])
        places = np.concatenate([places, np.repeat(moving, number)])
    order = np.argsort(places, kind="stable")
    total = np.insert(points, places[order] + 1, added[order], axis=0)
    shifts = np.concatenate([[0], np.cumsum(np.append(counts, 0))])
    return shapely.from_ragged_array(kind, total, (rings + shifts[rings], parts))


def _joined(parts: list[shapely.Polygon]) -> shapely.Polygon:
    """One polygon of the parts of a patch in several strips, without the borders between them."""
    return shapely.coverage_union_all(np.array(parts, object))
