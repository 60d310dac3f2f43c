"""Runs every check over the parts of a data set."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.conversion import Track, manifest_of, sha256
from distill.data.duplicates import Looks, near_identical, thumbnail
from distill.data.images import SUFFIXES, BrokenImage, is_file, read_image
from distill.data.overlaps import Features, features_of, overlapping
from distill.data.verification.layout import Part
from distill.data.verification.records import CheckedPart
from distill.data.verification.report import Finding, Lookalike, Report, counted


def verify(
    root: str | Path,
    parts: Sequence[Part],
    overlaps: bool = False,
    track: Track[Any] = lambda sequence, _: sequence,
) -> Report:
    """Checks files, records, masks, classes and splits.

    Args:
        root: The data set, for its name and its manifest.
        parts: Its annotation files, see `find_parts`.
        overlaps: Whether crops of one place that overlap in part are looked for as well, which takes longer.
        track: Wraps what takes long, to show progress.

    Raises:
        UserError: An annotation file is no COCO file at all.
    """
    checked = [CheckedPart(part) for part in parts]
    report = Report(str(root), [one.summary for one in checked])
    files = _Files(checked, overlaps, track)
    for one in checked:
        files.check(one)
        report.findings += one.findings
    report.findings += _classes_differ(checked)
    report.findings += _unlisted(checked)
    report.findings += _changed(Path(root), track)
    _find_lookalikes(report, checked, files)
    return report


class _Files:
    """Every image file, decoded once."""

    def __init__(self, checked: Sequence[CheckedPart], overlaps: bool, track: Track[Any]) -> None:
        self.sizes: dict[Path, tuple[int, int]] = {}
        self.faults: dict[Path, str] = {}
        self.thumbnails: dict[Path, NDArray[np.float32]] = {}
        self.features: dict[Path, Features] = {}
        paths = dict.fromkeys(path for one in checked for path in paths_of(one))
        for path in track(list(paths), "reading images"):
            try:
                pixels = read_image(path)
            except BrokenImage as error:
                self.faults[path] = str(error)
                continue
            self.sizes[path] = (pixels.shape[-2], pixels.shape[-1])
            self.thumbnails[path] = thumbnail(pixels)
            if overlaps:
                self.features[path] = features_of(pixels)

    def check(self, one: CheckedPart) -> None:
        """Adds what is wrong with the part's files."""
        broken = [self.faults[path] for path in paths_of(one) if path in self.faults]
        if broken:
            message = f"{len(broken)} of {len(one.images)} images are missing or cannot be decoded"
            advice = f"Copy them to {one.part.images}; on_error: skip trains without them, scoring refuses to"
            one.add("error", "image files", message, advice, broken)
        wrong = [
            f"{record['file_name']} is {self.sizes[path][1]}x{self.sizes[path][0]}, "
            f"the annotations say {record['width']}x{record['height']}"
            for path, record in zip(paths_of(one), one.images, strict=True)
            if path in self.sizes and self.sizes[path] != (record["height"], record["width"])
        ]
        if wrong:
            message = f"{counted(len(wrong), 'image')} of another size than annotated, so masks do not fit"
            one.add("error", "image files", message, "Undo the resizing or rotation, or annotate anew", wrong)


def paths_of(one: CheckedPart) -> list[Path]:
    """The image files of a part, in its order."""
    return [one.part.images / record["file_name"] for record in one.images]


def _classes_differ(checked: Sequence[CheckedPart]) -> list[Finding]:
    first = checked[0]
    cases = [f"{one.part.name}: {one.class_names}" for one in checked if one.class_names != first.class_names]
    if not cases:
        return []
    message = f"{len(cases)} parts have other classes or category ids than {first.part.name}"
    advice = "Scores of such parts mean other classes; give all parts the same categories"
    return [Finding("error", "", "classes", message, advice, cases)]


def _unlisted(checked: Sequence[CheckedPart]) -> list[Finding]:
    listed = {path for one in checked for path in paths_of(one)}
    folders = dict.fromkeys(path.parent for path in listed if path.parent.is_dir())
    extra = [
        path.name
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path not in listed and is_file(path)
    ]
    if not extra:
        return []
    message = f"{counted(len(extra), 'image file')} belonging to no annotation file"
    return [Finding("note", "", "image files", message, "They are never read", extra)]


def _changed(root: Path, track: Track[Any]) -> list[Finding]:
    manifest = manifest_of(root)
    if manifest is None:
        return []
    cases = [
        name
        for name, digest in track(list(manifest["outputs"].items()), "checking the manifest")
        if not is_file(root / name) or sha256(root / name) != digest
    ]
    if not cases:
        return []
    message = f"{counted(len(cases), 'file')} not as `distill data prepare` wrote them"
    return [Finding("error", "", "manifest", message, "Prepare the data set again", cases)]


def _find_lookalikes(report: Report, checked: Sequence[CheckedPart], files: _Files) -> None:
    groups: dict[str, list[CheckedPart]] = defaultdict(list)
    for one in checked:
        groups[one.part.group].append(one)
    for group in groups.values():
        for number, first in enumerate(group):
            for second in group[number:]:
                pairs = _pairs(first, second, files)
                report.lookalikes += pairs
                if pairs and second is not first:
                    report.findings.append(_leak(first, second, pairs))
    inside = [pair for pair in report.lookalikes if pair.parts[0] == pair.parts[1]]
    if inside:
        cases = [f"{pair.parts[0]}: {pair.files[0]}, {pair.files[1]}: {pair.how}" for pair in inside]
        message = f"{counted(len(inside), 'pair')} of images within one part show the same"
        advice = "They count double there; harmless in training unless their labels differ"
        report.findings.append(Finding("note", "", "near-identical images", message, advice, cases))


def _pairs(first: CheckedPart, second: CheckedPart, files: _Files) -> list[Lookalike]:
    """Images of both parts that show the same: by name, then by content."""
    own, other = ([path for path in paths_of(one) if path in files.thumbnails] for one in (first, second))
    looks = [Looks.from_thumbnails([files.thumbnails[path] for path in paths]) for paths in (own, other)]
    found: dict[tuple[Path, Path], str] = {}
    if first is second:
        alike = near_identical(looks[0])
    else:
        found = {(path, path): "same file" for path in set(own) & set(other)}
        alike = near_identical(*looks)
    for pair in alike:
        turned = ", turned" if pair.turned else ""
        same = (
            hashlib.sha256(own[pair.first].read_bytes()).digest()
            == hashlib.sha256(other[pair.second].read_bytes()).digest()
        )
        how = "same bytes" if same else f"{pair.distance}/64 bits, correlation {pair.correlation:.3f}{turned}"
        found.setdefault((own[pair.first], other[pair.second]), how)
    if files.features and first is not second:
        for i, j, points in overlapping([files.features[p] for p in own], [files.features[p] for p in other]):
            found.setdefault((own[i], other[j]), f"overlap: {points} points in common")
    objects = [
        {path: len(one.objects.get(record["id"], [])) for path, record in zip(paths_of(one), one.images, strict=True)}
        for one in (first, second)
    ]
    return [
        Lookalike((first.part.name, second.part.name), (a.name, b.name), (objects[0][a], objects[1][b]), how)
        for (a, b), how in found.items()
    ]


def _leak(first: CheckedPart, second: CheckedPart, pairs: Sequence[Lookalike]) -> Finding:
    touched = [len({pair.files[side] for pair in pairs}) for side in (0, 1)]
    overlaps = sum(pair.how.startswith("overlap") for pair in pairs)
    split = f" ({len(pairs) - overlaps} near-identical, {overlaps} overlapping)" if overlaps else ""
    return Finding(
        "warning",
        "",
        "split overlap",
        f"{counted(len(pairs), 'pair')} of images{split} show the same in {first.part.name} and {second.part.name}, "
        f"touching {touched[1]} of {len(second.images)} images of {second.part.name}",
        "A score on those rewards memory: report it without them too, or move each pair to one side",
        [f"{pair.files[0]}, {pair.files[1]}: {pair.how}" for pair in pairs],
    )
