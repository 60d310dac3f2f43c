"""SSDD, ships in radar images: the layouts it is published in, and its data module.

The official release (`Official-SSDD-OPEN`) holds one folder for each kind of label, of which `PSeg_SSDD` and
`BBox_RBox_PSeg_SSDD` have polygons, and in each `voc_style` (`Annotations*`, `JPEGImages*`) and `coco_style`
(`annotations`, `images`). Its split is a rule: images whose number ends in 1 or 9 are for testing.
RSPrompter's split is another one, 80 to 20 at random, and exists as its two COCO files only.

Source: Zhang et al., "SAR Ship Detection Dataset (SSDD): Official Release and Comprehensive Data Analysis", Remote
Sensing 13 (2021); github.com/TianwenZhang0825/Official-SSDD; github.com/KyanChen/RSPrompter.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files
from distill.data.datasets.source import Item, Objects, Source, coco_items, in_pairs
from distill.data.images import BrokenImage, size_fault
from distill.data.listing import below, entries, files_by_stem, images_by_stem, subfolders
from distill.data.masks import box_polygons
from distill.errors import UserError, unknown_name

SPLITS = {"official": "test", "rsprompter": "val"}  # each with the name of its second part


class SSDD(CocoInstances):
    """SSDD as `distill data prepare ssdd` writes it.

    Numbers under the two splits do not compare: 928 images train and 232 are scored in both, but not the same ones.
    Neither has a third part, so validation and test are the same images unless `val_fraction` holds out some of train.

    Args:
        root: The prepared data set.
        split: "official" scores the images whose number ends in 1 or 9, as SSDD's authors ask for; "rsprompter" is the
            random split behind the numbers of RSPrompter and RS4D.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` was not prepared or lacks the split; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, split: str = "official", **kwargs: Any) -> None:
        if split not in SPLITS:
            raise unknown_name("SSDD split", split, SPLITS)
        images, train, val = prepared_files("ssdd", root, f"{split}/train", f"{split}/{SPLITS[split]}")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=None,
            test_annotations=None,
            **kwargs,
        )


CLASSES = ("ship",)

_COCO_FILES = (
    ("rsprompter", {"train": "SSDD_instances_train.json", "val": "SSDD_instances_val.json"}),
    ("rsprompter", {"train": "train.json", "val": "val.json"}),
    ("official", {"train": "train.json", "test": "test.json"}),
)


def official_split(file_name: str) -> str:
    """ "train" or "test", from the last digit of the image's number.

    Raises:
        UserError: The name does not end in a digit.
    """
    digit = Path(file_name).stem[-1:]
    if not digit.isdigit():
        raise UserError(f"SSDD's split follows from the file number, but {file_name!r} does not end in a digit")
    return "test" if digit in "19" else "train"


def find(folder: Path, on_error: str) -> Source:
    """The first layout found, polygons before boxes.

    Raises:
        UserError: There is none; and all cases of `coco_items` and `in_pairs`.
    """
    for base in sorted(subfolders(folder), key=lambda path: "pseg" not in path.relative_to(folder).as_posix().lower()):
        source = _coco(base, on_error) or _voc(base, on_error)
        if source is not None:
            return source
    raise UserError(
        f"--source {str(folder)!r} holds no SSDD: neither Annotations*/*.xml beside JPEGImages*/, nor "
        "annotations/{train,val}.json (RSPrompter), nor annotations/{train,test}.json (official)"
    )


def _coco(base: Path, on_error: str) -> Source | None:
    for kind, names in _COCO_FILES:
        files = {split: below(base, f"annotations/{name}") for split, name in names.items()}
        if not all(path.is_file() for path in files.values()):
            continue

        def splits_of(name: str, split: str, kind: str = kind) -> tuple[str, ...]:
            official = f"official/{official_split(name)}"
            return (official, f"rsprompter/{split}") if kind == "rsprompter" else (official,)

        roots = [below(base, name) for name in ("images", "imgs")]
        images = images_by_stem(
            folder for root in roots for folder in (root, below(root, "train"), below(root, "test"))
        )
        names_found, items, skipped = coco_items(files, images, roots[0], on_error, splits_of)
        return Source(f"COCO, {kind} files", names_found, items, list(files.values()), skipped)
    return None


def _voc(base: Path, on_error: str) -> Source | None:
    named = {folder: folder.name.lower() for folder in entries(base)}
    # JPEGImages_PSeg_GT_Mask holds drawings of the masks.
    images = images_by_stem(
        path for path, name in named.items() if name.startswith("jpegimages") and "pseg" not in name
    )
    files = files_by_stem((path for path, name in named.items() if name.startswith("annotations")), (".xml",))
    if not files or not images:
        return None
    stems, alone, skipped = in_pairs(images, files, "XML file", on_error)
    items = [
        Item(
            name=images[stem].name,
            image=images[stem],
            image_id=number,
            splits=(f"official/{official_split(stem)}",),
            objects=_voc_objects(files[stem]),
            files=(files[stem],),
        )
        for number, stem in enumerate(sorted(stems), start=1)
    ]
    return Source("VOC", CLASSES, items, alone, skipped)


def _voc_objects(path: Path) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        try:
            root = ElementTree.parse(path).getroot()
            if root.tag != "annotation":
                raise ValueError(f"its root is <{root.tag}>, not <annotation>")
            published = tuple(int(root.findtext(f"size/{key}", "0")) for key in ("height", "width"))
            found = [_voc_object(node) for node in root.iter("object")]
        except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:  # LookupError: unknown encoding
            raise BrokenImage(f"annotation file {str(path)!r} cannot be read ({error})") from error
        size_said = f"the size in annotation file {str(path)!r}"
        if all(published) and (fault := size_fault(size_said, published, "the image is", (height, width))):
            raise BrokenImage(fault)
        if not found:
            raise BrokenImage(f"annotation file {str(path)!r} has no <object>, but every image of SSDD shows a ship")
        return found

    return objects


def _voc_object(node: ElementTree.Element) -> dict[str, Any]:
    """One <object>: polygons from <segm><point>x,y</point>...</segm>, else the rectangle of its <bndbox>."""
    name = node.findtext("name", "").strip()
    if name.lower() not in CLASSES:
        raise ValueError(f"object of class {name!r}; SSDD has {', '.join(CLASSES)}")
    polygons = [
        [float(number) for point in outline.iter("point") for number in (point.text or "").split(",")]
        for outline in node.iter("segm")
    ]
    numbers = [node.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    if all(numbers):
        x1, y1, x2, y2 = (float(number or "nan") for number in numbers)
    elif any(polygons):
        x, y = ([number for polygon in polygons for number in polygon[axis::2]] for axis in (0, 1))
        x1, y1, x2, y2 = min(x), min(y), max(x), max(y)
    else:
        raise ValueError("object with neither <segm> nor <bndbox>")
    return {
        "category_id": 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": polygons or box_polygons(x1, y1, x2, y2),
    }
