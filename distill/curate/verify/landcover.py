"""Verification of land cover: every pair of image and mask, the classes' pixels, and what splits share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from distill.curate.tracking import Track, silent
from distill.curate.verify.files import CheckedFiles, ImageFiles
from distill.curate.verify.findings import Finding, Level, counted
from distill.curate.verify.images import check_images
from distill.curate.verify.report import Report
from distill.data.base import SPLITS
from distill.data.class_table import IGNORE
from distill.data.images import BrokenImage
from distill.data.label_pairs import Pair
from distill.data.semantic import SemanticImages
from distill.errors import UserError

_UNLABELLED = "not labelled"
_RARE = 0.01  # of the labelled pixels
_MOSTLY = 0.5


@dataclass
class LabelSummary:
    """Counts of a part.

    Args:
        name: Name of the part.
        images: Number of images with a mask that can be read.
        pixels: By class name, and for what is not labelled, the number of pixels and of images that show some.
    """

    name: str
    images: int = 0
    pixels: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class LandCoverReport(Report):
    """All findings about a land-cover data set."""

    summaries: list[LabelSummary] = field(default_factory=list)
    shown: ClassVar[str] = "classes"

    def overview(self) -> list[RenderableType]:
        """Shares of the classes in the pixels of each part, and in how many images they are."""
        table = Table("class", box=None, pad_edge=False)
        for part in self.summaries:
            table.add_column(Text(f"{part.name}: pixels ({counted(part.images, 'image')})"), justify="right")
        for name in dict.fromkeys(name for part in self.summaries for name in part.pixels):
            cells = []
            for part in self.summaries:
                pixels, images = part.pixels.get(name, (0, 0))
                total = sum(count for count, _ in part.pixels.values())
                cells.append(f"{pixels / max(total, 1):.1%} ({images:,})")
            table.add_row(Text(name), *cells)
        return [table]


class LabelledPart:
    """The pairs of a split that can be read, and what is wrong with the others; see `CheckedFiles`."""

    def __init__(self, name: str, pairs: Sequence[Pair], module: SemanticImages, track: Track[Any]) -> None:
        self.name = name
        self.images_folder = Path()
        self.images: list[dict[str, Any]] = []
        self.objects: dict[int, Sequence[Any]] = {}
        self.findings: list[Finding] = []
        counts = np.zeros(IGNORE + 1, np.int64)
        shown = np.zeros(IGNORE + 1, np.int64)
        faults: dict[str, list[str]] = {"masks": [], "mask values": []}
        for number, pair in enumerate(track(pairs, f"reading masks of {name}")):
            try:
                labels = module.table.read(pair.mask).numpy()
            except UserError as error:
                faults["masks" if isinstance(error, BrokenImage) else "mask values"].append(str(error))
                continue
            own = np.bincount(labels.ravel(), minlength=IGNORE + 1)
            counts += own
            shown += own > 0
            height, width = labels.shape
            self.images.append({"id": number, "file_name": str(pair.image), "height": height, "width": width})
            self.objects[number] = np.flatnonzero(own[: len(module.class_names)]).tolist()
        self.summary = LabelSummary(name, len(self.images))
        for label, class_name in [*enumerate(module.class_names), (IGNORE, _UNLABELLED)]:
            self.summary.pixels[class_name] = int(counts[label]), int(shown[label])
        for check, cases in faults.items():
            if cases:
                message = f"{len(cases)} of {len(pairs)} masks cannot be used"
                self.add("error", check, message, "Training stops at the first; correct them, or the classes", cases)
        self._judge()

    def add(self, level: Level, check: str, message: str, advice: str, cases: Sequence[str] = ()) -> None:
        """Adds a finding about this part."""
        self.findings.append(Finding(level, self.name, check, message, advice, tuple(cases)))

    def _judge(self) -> None:
        pixels = {name: count for name, (count, _) in self.summary.pixels.items() if name != _UNLABELLED}
        total = sum(pixels.values())
        if not self.images:
            return
        if absent := [name for name, count in pixels.items() if count == 0]:
            advice = "Such a class is not learned from a training part and has no score in another"
            self.add("warning", "class balance", f"no pixel of {', '.join(absent)}", advice)
        if rare := [f"{name} {count / total:.2%}" for name, count in pixels.items() if 0 < count < _RARE * total]:
            message = f"less than {_RARE:.0%} of the pixels: {', '.join(rare)}"
            self.add("note", "rare classes", message, "Read scores by class")
        unlabelled = self.summary.pixels[_UNLABELLED][0]
        if unlabelled > _MOSTLY * (total + unlabelled):
            message = f"{unlabelled / (total + unlabelled):.0%} of the pixels are not labelled"
            self.add("warning", "not labelled", message, "Check data.ignore")


def verify_landcover(
    name: str,
    module: SemanticImages,
    overlaps: bool = False,
    track: Track[Any] = silent,
    bands: Sequence[int] | None = None,
) -> LandCoverReport:
    """Checks files, sizes, the masks' values, classes and splits.

    Args:
        name: What the report is about.
        module: The data module, with its class table.
        overlaps: Whether crops of one place that overlap in part are looked for as well, which takes longer.
        track: Wraps what takes long, to show progress.
        bands: Which bands of the images are shown; by default those of the module.

    Raises:
        UserError: No split can be read.
    """
    pairs: dict[str, list[Pair]] = {}
    faults: list[tuple[str, UserError]] = []
    for split in SPLITS:
        try:
            found = module.find(split)
        except UserError as error:
            faults.append((split, error))
            continue
        if same := next((other for other, own in pairs.items() if own == found), None):
            pairs[f"{same}, {split}"] = pairs.pop(same)
        else:
            pairs[split] = found
    if not pairs:
        raise faults[0][1]
    parts: list[CheckedFiles] = []
    report = LandCoverReport(name)
    report.findings += [
        Finding("error", split, "files", str(fault), "This report is without that part") for split, fault in faults
    ]
    for split, found in pairs.items():
        part = LabelledPart(split, found, module, track)
        report.summaries.append(part.summary)
        parts.append(part)
    files = ImageFiles(parts, overlaps, track, bands or module.bands)
    check_images(report, [parts], files, track)
    return report
