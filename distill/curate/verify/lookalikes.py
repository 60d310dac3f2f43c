"""Which images of a data set show the same: one file, the same bytes, nearly the same content, overlapping crops."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from distill.curate.overlaps import overlapping
from distill.curate.tracking import Track
from distill.curate.verify.files import CheckedFiles, ImageFiles, paths_of
from distill.curate.verify.findings import Finding, Lookalikes, counted
from distill.data.duplicates import Looks, Pair, groups_of, near_identical


class _Image(NamedTuple):
    part: str
    file: str
    objects: int
    path: Path


def find_lookalikes(group: Sequence[CheckedFiles], files: ImageFiles, track: Track[Any]) -> list[Lookalikes]:
    """Images of parts that should share none, in sets that show the same: those across parts first, the surest first.

    Overlapping crops come as pairs, because of three crops in a row the outer two may have nothing in common.
    """
    images = [
        _Image(one.name, record["file_name"], len(one.objects.get(record["id"], [])), path)
        for one in group
        for path, record in zip(paths_of(one), one.images, strict=True)
        if path in files.thumbnails
    ]
    sets = _alike(images, files)
    found = [(strength, _lookalikes(members, how)) for members, strength, how in sets]
    found.sort(key=lambda item: (not item[1].across, -item[0]))
    if files.features:
        together = {image: number for number, (members, _, _) in enumerate(sets) for image in members}
        return [lookalikes for _, lookalikes in found] + _overlaps(images, together, files, track)
    return [lookalikes for _, lookalikes in found]


def findings_about(group: Sequence[CheckedFiles], lookalikes: Sequence[Lookalikes]) -> list[Finding]:
    """The consequences for scores, for each pair of parts and within parts."""
    pairs = combinations(group, 2)
    findings = [finding for first, second in pairs if (finding := _leak(first, second, lookalikes)) is not None]
    if inside := [one for one in lookalikes if one.within]:
        message = f"{_sets(inside)} of images within one part show the same"
        advice = "They count double there; harmless in training unless their labels differ"
        cases = [f"{', '.join(dict.fromkeys(one.parts))}: {one}" for one in inside]
        findings.append(Finding("note", "", "near-identical images", message, advice, cases))
    return findings


def _alike(images: Sequence[_Image], files: ImageFiles) -> list[tuple[list[_Image], float, str]]:
    """Sets of images, how sure it is that they show the same, and why."""
    by_content: dict[Hashable, list[_Image]] = defaultdict(list)
    for image in images:
        # Tiles of one value have the same bytes wherever they come from, so only their names can tell.
        blank = files.thumbnails[image.path].std() == 0
        by_content[image.path if blank else files.digests[image.path]].append(image)
    contents = list(by_content.values())
    # One of each is compared with the others: any number of copies costs no more than one.
    pairs = near_identical(Looks.from_thumbnails([files.thumbnails[content[0].path] for content in contents]))
    groups = groups_of(pairs, len(contents)).tolist()
    members: dict[int, list[_Image]] = defaultdict(list)
    links: dict[int, list[Pair]] = defaultdict(list)
    for group, content in zip(groups, contents, strict=True):
        members[group] += content
    for pair in pairs:
        links[groups[pair.first]].append(pair)
    return [(found, *_how(found, links[group])) for group, found in members.items() if len(found) > 1]


def _how(members: Sequence[_Image], links: Sequence[Pair]) -> tuple[float, str]:
    if not links:
        return (3, "same file") if len({image.path for image in members}) == 1 else (2, "same bytes")
    weakest = min(links, key=lambda pair: pair.correlation)
    if len(members) > 2:
        return weakest.correlation, f"linked by correlations of {weakest.correlation:.3f} or more"
    turned = ", turned" if weakest.turned else ""
    return weakest.correlation, f"{weakest.distance}/64 bits, correlation {weakest.correlation:.3f}{turned}"


def _overlaps(
    images: Sequence[_Image], together: dict[_Image, int], files: ImageFiles, track: Track[Any]
) -> list[Lookalikes]:
    """Pairs of crops of two parts, without those in one set already."""
    by_part: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        by_part[image.part].append(image)
    pairs = []
    for one, two in combinations(by_part.values(), 2):
        first = [files.features[image.path] for image in one]
        second = track([files.features[image.path] for image in two], "matching crops")
        for i, j, points in overlapping(first, second):
            if together.get(one[i], -1) != together.get(two[j], -2):
                pairs.append(_lookalikes([one[i], two[j]], f"overlap: {points} points in common"))
    return pairs


def _lookalikes(members: Sequence[_Image], how: str) -> Lookalikes:
    parts, names, objects, _ = zip(*members, strict=True)
    return Lookalikes(parts, names, objects, how)


def _leak(first: CheckedFiles, second: CheckedFiles, lookalikes: Sequence[Lookalikes]) -> Finding | None:
    names = first.name, second.name
    shared = [one for one in lookalikes if set(names) <= set(one.parts)]
    if not shared:
        return None
    files = {file for one in shared for part, file in zip(one.parts, one.files, strict=True) if part == names[1]}
    overlaps = sum(one.how.startswith("overlap") for one in shared)
    split = f" ({len(shared) - overlaps} near-identical, {overlaps} overlapping)" if overlaps else ""
    return Finding(
        "warning",
        "",
        "split overlap",
        f"{_sets(shared)} of images{split} show the same in {names[0]} and {names[1]}, "
        f"touching {len(files)} of {len(second.images)} images of {names[1]}",
        "A score on those rewards memory: report it without them too, or move each of them to one side",
        [str(one) for one in shared],
    )


def _sets(lookalikes: Sequence[Lookalikes]) -> str:
    return counted(len(lookalikes), "pair" if all(len(one.files) == 2 for one in lookalikes) else "set")
