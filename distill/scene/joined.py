"""Files on all scenes of a prediction together: COCO results, a COCO data set, the summary."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import move_into_place, read_json, write_json
from distill.locks import locked
from distill.scene.coco_files import CocoPart, join_coco
from distill.scene.georeference import Georeference
from distill.scene.journal import FOLDER, first_difference
from distill.scene.summary import SceneSummary

RESULTS, DATA_SET, SUMMARY = "predictions.json", "images.json", "summary.json"
_OF_A_SCENE = ("source", "plan", "stretch", "formats")  # of a header; the rest is the same for all scenes


def settings_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a header that are the same for all scenes of a prediction."""
    return {key: value for key, value in header.items() if key not in _OF_A_SCENE}


def finished_scenes(out: Path, names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, SceneSummary]:
    """The scenes of the output folder that are finished with these settings, by name, whichever process did it.

    Those of earlier commands are among them, so that a folder that grows scene by scene is described as a whole.

    Args:
        out: The output folder.
        names: Of the scenes of this command.
        settings: See `settings_of`.
    """
    found = {}
    records = (out / FOLDER).glob("[!.]*.json")  # what a killed process was writing begins with a dot
    for name in sorted({*names, *(record.stem for record in records)}):
        record = out / FOLDER / f"{name}.json"
        if not record.is_file():
            continue
        content = read_json(record)
        if first_difference(settings_of(content["header"]), settings) is None:
            summary = SceneSummary.from_json(content["summary"])
            if all((out / name).exists() for name in summary.outputs):  # else the user has removed it
                found[name] = summary
    return found


def refuse_foreign_files(out: Path) -> None:
    """Refuses an output folder whose joined files no prediction wrote.

    Raises:
        UserError: There is one.
    """
    for name in (RESULTS, DATA_SET, SUMMARY):
        if (out / name).exists() and not (out / FOLDER).is_dir():
            raise UserError(
                f"{out / name} is there already and no prediction wrote it; give another --out, or --overwrite to "
                "replace it"
            )


def join(out: Path, scenes: Sequence[SceneSummary], class_names: Sequence[str], facts: Mapping[str, Any]) -> list[str]:
    """Writes the joined files, the summary last; the same scenes give the same files.

    The summary lists them; those that the summary before it lists and this one does not are removed. Of several
    processes that come here at once, one writes.

    Args:
        out: The output folder.
        scenes: All of them, in the order of their names.
        class_names: In label order.
        facts: Of the run and the settings, for the summary.

    Returns:
        Names of the files.
    """
    parts = _parts(out, scenes)
    names = [RESULTS, DATA_SET, SUMMARY] if parts else [SUMMARY]
    with locked(out / FOLDER / "joined.lock", 0, 1) as got:
        if got:
            fresh = out / FOLDER / "joined"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            if parts:
                join_coco(parts, class_names, fresh / RESULTS, fresh / DATA_SET)
            before = read_json(out / SUMMARY).get("files", ()) if (out / SUMMARY).is_file() else ()
            write_json(fresh / SUMMARY, {**facts, "files": names, "scenes": [scene.as_json() for scene in scenes]})
            for name in names:
                move_into_place(fresh / name, out / name)
            for name in set(before) - set(names):
                (out / name).unlink(missing_ok=True)
            shutil.rmtree(fresh)
    return names


def _parts(out: Path, scenes: Sequence[SceneSummary]) -> list[CocoPart]:
    # The formats of an earlier command may lack COCO.
    there = [scene for scene in scenes if (out / FOLDER / f"{scene.name}.jsonl").is_file()]
    return [
        CocoPart(
            out / FOLDER / f"{scene.name}.jsonl",
            file_name,
            scene.height,
            scene.width,
            None if scene.transform is None else Georeference(scene.transform, scene.crs),
        )
        for scene, file_name in zip(there, file_names([scene.source for scene in there]), strict=True)
    ]


def file_names(sources: Sequence[str]) -> list[str]:
    """Names of images as annotation tools look for them: those of the files, with folders where two have one name.

    Args:
        sources: Paths of different files.
    """
    names = [Path(source).name for source in sources]
    if len(set(names)) == len(names):
        return names
    places = [Path(source).absolute() for source in sources]
    try:
        return [place.relative_to(os.path.commonpath(places)).as_posix() for place in places]
    except ValueError:  # on several drives of Windows
        return [place.as_posix() for place in places]
