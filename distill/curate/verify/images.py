"""Checks the image files of a whole data set: faults, unlisted files, and images that show the same."""

from collections.abc import Sequence
from typing import Any

from distill.curate.tracking import Track
from distill.curate.verify.files import CheckedFiles, ImageFiles, paths_of
from distill.curate.verify.findings import Finding, counted
from distill.curate.verify.lookalikes import find_lookalikes, findings_about
from distill.curate.verify.report import Report
from distill.data.images import SUFFIXES, is_file, is_leftover


def check_images(
    report: Report, groups: Sequence[Sequence[CheckedFiles]], files: ImageFiles, track: Track[Any]
) -> None:
    """Adds to a report what is wrong with the image files and which show the same.

    Args:
        report: What is added to.
        groups: Parts of one group are meant to share no image.
        files: All their images.
        track: Shows progress.
    """
    parts = [one for group in groups for one in group]
    for one in parts:
        files.check(one)
        report.findings += one.findings
    report.findings += _unlisted(parts)
    for group in groups:
        lookalikes = find_lookalikes(group, files, track)
        report.lookalikes += lookalikes
        report.findings += findings_about(group, lookalikes)


def _unlisted(checked: Sequence[CheckedFiles]) -> list[Finding]:
    listed = {path for one in checked for path in paths_of(one)}
    folders = dict.fromkeys(path.parent for path in listed if path.parent.is_dir())
    extra = [
        path.name
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path not in listed and not is_leftover(path.name) and is_file(path)
    ]
    if not extra:
        return []
    message = f"{counted(len(extra), 'image file')} belonging to no annotation file"
    return [Finding("note", "", "image files", message, "They are never read", extra)]
