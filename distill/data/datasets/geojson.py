"""Rasters with polygons in GeoJSON: a file beside each raster, or one file for all of them.

Coordinates are longitude and latitude, or those of a CRS that the file names or of the raster (see
`distill.data.vectors.Place.pixels`). Polygons are cut at the borders of a raster; one that lies in several rasters is
an object in each. A property names the class. Folders `train`, `val` and `test` are a split, else all rasters are in
the part `all`.

Source: RFC 7946.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill.data.datasets.source import Found, Item, Objects, Source, in_pairs, part_of, stem_below
from distill.data.images import SUFFIXES, BrokenImage
from distill.data.listing import entries, subfolders
from distill.data.records import Problem
from distill.data.vectors import Feature, Place, Ring, Vectors, place_of, read_geojson, segmentation
from distill.errors import UserError, did_you_mean

CLASS_KEY = "class"


def find(folder: Path, on_error: str, class_key: str | None = None, class_name: str | None = None) -> Source:
    """The rasters and GeoJSON files.

    Args:
        folder: Where they lie.
        on_error: "raise" stops at the first feature that cannot be used, "skip" leaves it out.
        class_key: The property that names the class of a feature; by default "class".
        class_name: The class of all features, in place of a property.

    Raises:
        UserError: There is none, or no feature has the property; a feature cannot be used or lies in no raster (under
            "raise"); and all cases of `in_pairs`.
    """
    files = [path for base in subfolders(folder, depth=6) for path in entries(base)]
    images = {stem_below(path, folder): path for path in files if path.suffix.lower() in SUFFIXES}
    labels = {stem_below(path, folder): path for path in files if path.suffix.lower() == ".geojson"}
    if not images or not labels:
        raise UserError(f"--source {str(folder)!r} holds no *.geojson with rasters ({', '.join(SUFFIXES)})")
    images = dict(sorted(images.items()))
    alone: list[Path] = []
    skipped: list[Problem] = []
    one_for_all = len(labels) == 1 and not labels.keys() & images.keys()
    if one_for_all:
        of_image = dict.fromkeys(images, next(iter(labels.values())))
    else:
        names, alone, skipped = in_pairs(images, labels, "GeoJSON file", on_error)
        of_image = {name: labels[name] for name in names}
    vectors = {path: read_geojson(path) for path in dict.fromkeys(of_image.values())}
    problems = [problem for content in vectors.values() for problem in content.problems]
    if problems and on_error == "raise":
        raise UserError(f"{problems[0]}; correct it, or leave such features out with --on-error skip")
    class_of = _classes(list(vectors.values()), class_key, class_name)
    class_names = sorted({name for content in vectors.values() for f in content.features if (name := class_of(f))})
    if not class_names:
        raise UserError(f"--source {str(folder)!r} holds no feature of a class")
    items = [
        Item(
            name=images[stem].relative_to(folder).as_posix(),
            image=images[stem],
            image_id=number,
            splits=(part_of(images[stem], folder),),
            objects=_objects(images[stem], vectors[path], class_names, class_of, one_for_all),
            files=(path,),
        )
        for number, (stem, path) in enumerate(of_image.items(), start=1)
    ]
    if one_for_all and not any(_meets(item.image, vectors[item.files[0]]) for item in items):
        raise UserError(
            f"no feature of {str(next(iter(vectors)))!r} lies in one of the {len(items)} rasters; check the CRS of both"
        )
    return Source(
        f"GeoJSON, {'one for all rasters' if one_for_all else 'one beside each raster'}",
        class_names,
        items,
        [*alone, *(path for path in labels.values() if one_for_all)],
        [*skipped, *problems],
    )


def _classes(
    contents: Sequence[Vectors], class_key: str | None, class_name: str | None
) -> Callable[[Feature], str | None]:
    """What names the class of a feature; None where nothing does.

    Raises:
        UserError: No feature has the property.
    """
    if class_name is not None:
        if class_key is not None:
            raise UserError("--class-key and --class-name exclude each other; give the one that says what objects are")
        return lambda feature: class_name
    key = CLASS_KEY if class_key is None else class_key
    keys = sorted({key for content in contents for feature in content.features for key in feature.properties})
    if key not in keys:
        raise UserError(
            f"no feature of {str(contents[0].path)!r} has the property {key!r}: {did_you_mean(key, keys)}properties "
            f"are {', '.join(keys) or 'none'}; name the right one with --class-key, or the class with --class-name"
        )

    def name_of(feature: Feature) -> str | None:
        value = feature.properties.get(key)
        return None if value is None or isinstance(value, Mapping | list) or value == "" else str(value)

    return name_of


def _meets(image: Path, vectors: Vectors) -> bool:
    try:
        return bool(vectors.within(place_of(image)))
    except BrokenImage:
        return False


def _objects(
    image: Path,
    vectors: Vectors,
    class_names: Sequence[str],
    class_of: Callable[[Feature], str | None],
    one_for_all: bool,
) -> Objects:
    def objects(height: int, width: int) -> list[Found]:
        place = place_of(image)
        found = [
            _object(feature, polygons, place, class_names, class_of, vectors)
            for feature, polygons in vectors.within(place)
        ]
        if vectors.features and not found and not one_for_all:
            raise BrokenImage(
                f"none of the {len(vectors.features)} features of {str(vectors.path)!r} lies in {str(image)!r}; check "
                "the CRS of both"
            )
        return [one for one in found if one is not None]

    return objects


def _object(
    feature: Feature,
    polygons: Sequence[Sequence[Ring]],
    place: Place,
    class_names: Sequence[str],
    class_of: Callable[[Feature], str | None],
    vectors: Vectors,
) -> Found | None:
    """One feature as an annotation; None where its polygons pass the raster by."""
    name = class_of(feature)
    if name is None:
        return Problem("class", f"feature {feature.number} of {str(vectors.path)!r}", "has no class")
    outline = segmentation(polygons, place)
    return None if outline is None else {"category_id": class_names.index(name) + 1, "segmentation": outline}
