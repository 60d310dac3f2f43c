"""Verification of instances: the COCO files of a data set, their images, and what splits share."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.curate.manifest import manifest_of, sha256
from distill.curate.tracking import Track, silent
from distill.curate.verify.files import CheckedFiles, ImageFiles
from distill.curate.verify.findings import Finding, counted
from distill.curate.verify.images import check_images
from distill.curate.verify.layout import Part
from distill.curate.verify.records import CheckedPart
from distill.curate.verify.report import Report
from distill.data.images import is_file
from distill.errors import UserError


def verify_instances(
    root: str | Path,
    parts: Sequence[Part],
    overlaps: bool = False,
    track: Track[Any] = silent,
    bands: Sequence[int] | None = None,
) -> Report:
    """Checks files, records, masks, classes and splits.

    Args:
        root: The data set, for its name and its manifest.
        parts: Its annotation files, see `find_parts`.
        overlaps: Whether crops of one place that overlap in part are looked for as well, which takes longer.
        track: Wraps what takes long, to show progress.
        bands: Which bands of the images are shown, see `distill.data.images.read_image`.

    Raises:
        UserError: No annotation file is a COCO file with a folder of images.
    """
    checked, unread = _checked(parts)
    report = Report(str(root), [one.summary for one in checked], unread)
    files = ImageFiles(checked, overlaps, track, bands)
    report.findings += _classes_differ(checked)
    report.findings += _manifest(Path(root), files, track)
    groups: dict[str, list[CheckedFiles]] = defaultdict(list)
    for one in checked:
        groups[one.part.group].append(one)
    check_images(report, list(groups.values()), files, track)
    return report


def _checked(parts: Sequence[Part]) -> tuple[list[CheckedPart], list[Finding]]:
    """The parts that are COCO files, and what is wrong with the others."""
    checked: list[CheckedPart] = []
    faults: list[tuple[Part, UserError]] = []
    for part in parts:
        try:
            checked.append(CheckedPart(part))
        except UserError as error:
            faults.append((part, error))
    if not checked:
        raise faults[0][1]
    advice = "This report is without it; correct the file, or move it elsewhere if it is no annotation file"
    return checked, [Finding("error", part.name, "annotation file", str(error), advice) for part, error in faults]


def _classes_differ(checked: Sequence[CheckedPart]) -> list[Finding]:
    first = checked[0]
    cases = [f"{one.part.name}: {one.class_names}" for one in checked if one.class_names != first.class_names]
    if not cases:
        return []
    message = f"{len(cases)} parts have other classes or category ids than {first.part.name}"
    advice = "Scores of such parts mean other classes; give all parts the same categories"
    return [Finding("error", "", "classes", message, advice, cases)]


def _manifest(root: Path, files: ImageFiles, track: Track[Any]) -> list[Finding]:
    """What was left out when the data set was prepared, and what has changed since."""
    manifest = manifest_of(root)
    if manifest is None:
        return []
    findings = []
    if skipped := manifest.get("skipped"):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in manifest.get("skipped_by_kind", {}).items())
        message = f"`distill data prepare` left out {len(skipped):,}{f': {kinds}' if kinds else ''}"
        advice = "A score over less than was published does not compare; correct the source and prepare it again"
        findings.append(Finding("warning", "", "left out", message, advice, skipped))
    changed = [
        name
        for name, digest in track(list(manifest["outputs"].items()), "checking the manifest")
        if not is_file(root / name) or (files.digests.get(root / name) or sha256(root / name)) != digest
    ]
    if changed:
        message = f"{counted(len(changed), 'file')} not as `distill data prepare` wrote them"
        findings.append(Finding("error", "", "manifest", message, "Prepare the data set again", changed))
    return findings
