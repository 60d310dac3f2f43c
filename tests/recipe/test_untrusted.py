"""Recipes from elsewhere: what could run code, read a file or download is refused before anything is imported."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.errors import UserError
from distill.recipe.compose import read_raw
from distill.recipe.untrusted import checked
from tests.small_recipes import fine_tuning

TOUCH = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}


@pytest.fixture
def recipe() -> dict[str, Any]:
    return fine_tuning(Path("scenes"), Path("run"))


def put(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with the value under a key whose parts are divided by slashes."""
    changed = node = copy.deepcopy(tree)
    *parents, last = key.split("/")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return changed


MODEL, STUDENT, HEAD = "model/init_args", "model/init_args/student/init_args", "model/init_args/head/init_args"


def test_a_recipe_of_this_project_is_read(recipe: dict[str, Any]) -> None:
    recipe["model"]["init_args"]["student"]["init_args"]["checkpoint"] = "student.safetensors"
    recipe["trainer"]["callbacks"] = [TOUCH]  # never read
    recipe["data"]["class_path"] = "os.system"
    recipe["model"]["init_args"]["teacher"] = TOUCH
    recipe["model"]["init_args"]["max_detections"] = 50
    found = checked(recipe, "it")
    assert found["model"]["init_args"]["student"]["init_args"] == {
        "variant": "tiny", "image_size": 64, "patch_size": 8, "checkpoint": None,
    }  # fmt: skip
    assert found["model"]["init_args"]["head"] == recipe["model"]["init_args"]["head"]
    assert found["model"]["init_args"]["max_detections"] == 50
    assert set(found["model"]["init_args"]) == {"student", "head", "max_detections"}
    assert found["data"]["init_args"] == {"image_size": 64, "batch_size": 2}
    assert found["trainer"] == {"precision": None}
    for path in ("distill.tasks.segmentation.SegmentationModule", "distill.DistillationModule"):
        assert checked(put(recipe, "model/class_path", path), "it")["model"]["class_path"] == path


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("model/class_path", "os.system", "'os.system' as model"),
        ("model/class_path", "distill.fit", "'distill.fit' as model"),
        ("model/class_path", "distill.files.write_text", "'distill.files.write_text' as model"),
        ("model", TOUCH, "'subprocess.Popen' as model"),
        (f"{MODEL}/student", TOUCH, "'subprocess.Popen' as model.student"),
        (f"{MODEL}/student/class_path", "students.scan.cpu.build.compile", "as model.student"),
        (f"{MODEL}/student/class_path", "heads.MaskRCNN", "'heads.MaskRCNN' as model.student"),
        (f"{MODEL}/student/class_path", ["os.system"], "as model.student"),
        (f"{MODEL}/student", "os.system", "model.student has another form"),
        (f"{MODEL}/head", "os.system", "model.head has another form"),
        (f"{MODEL}/head", {"class_path": "os.system"}, "'os.system' as model.head"),
        (f"{STUDENT}/scan_backend", TOUCH, "'subprocess.Popen' as model.student.scan_backend.class_path"),
        (f"{STUDENT}/out_indices", [0, {"deep": [TOUCH]}], "'subprocess.Popen' as model.student.out_indices.deep"),
        (f"{HEAD}/overrides", {"rpn_head": TOUCH}, "'subprocess.Popen' as model.head.overrides.rpn_head"),
        (f"{HEAD}/overrides", {"rpn_head.class_path": "os.system"}, "'os.system' as model.head.overrides.rpn_head"),
        (f"{HEAD}/overrides", {"a": "{class_path: os.system}"}, "only plain words"),
        (f"{HEAD}/overrides", {"a": "class_path: os.system"}, "only plain words"),
        (f"{HEAD}/overrides", {"rpn_head.type": "os.system"}, "the type 'os.system'"),
        (f"{HEAD}/overrides", {"rpn_head": {"type": "antigravity"}}, "the type 'antigravity'"),
        (f"{HEAD}/overrides", {"rpn_head.type": "TIMMBackbone"}, "the type 'TIMMBackbone'"),
        (f"{HEAD}/overrides", {"rpn_head.type": ["RPNHead"]}, "the type"),
        (f"{HEAD}/overrides", {"rpn_head.init_cfg": {"type": "Pretrained"}}, "rpn_head.init_cfg"),
        (f"{HEAD}/overrides", {"rpn_head._scope_": "evil"}, "_scope_ 'evil'"),
        (f"{HEAD}/dict_kwargs", {"a": 1}, "dict_kwargs"),
        (f"{STUDENT}/options", {"checkpoint_path": "evil.pth"}, "checkpoint_path 'evil.pth'"),
        (f"{STUDENT}/options", {"pretrained": True}, "pretrained True"),
        (f"{STUDENT}/options", {"pretrained_cfg": {"file": "evil"}}, "pretrained_cfg"),
        (f"{STUDENT}/variant", "hf-hub:evil/net", "only plain words"),
        (f"{STUDENT}/variant", "../net", "only plain words"),
        (f"{STUDENT}/checkpoint", {"a": "/etc/passwd"}, "only plain words"),
        ("data/init_args/bands", ["{class_path: os.system}"], "data.bands has another form"),
        ("trainer/precision", {"class_path": "os.system"}, "trainer.precision has another form"),
        ("data", "os.system", "data has another form"),
    ],
)  # fmt: skip
def test_code_files_and_addresses_are_refused(recipe: dict[str, Any], key: str, value: Any, named: str) -> None:
    with pytest.raises(UserError) as error:
        checked(put(recipe, key, value), "the recipe of it")
    assert named in str(error.value)
    assert "the recipe of it" in str(error.value)


def test_files_of_the_working_directory_are_not_read(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = put(recipe, f"{HEAD}/overrides", "recipe.yaml")
    assert checked(changed, "it")["model"]["init_args"]["head"]["init_args"]["overrides"] == "recipe.yaml"
    Path("recipe.yaml").write_text("class_path: os.system")
    with pytest.raises(UserError, match=r"overrides 'recipe.yaml', which is the name of a file here"):
        checked(changed, "it")


@pytest.mark.parametrize("part", ["student", "head", "teacher", "class_path"])
def test_nothing_is_imported_on_the_way(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The module of a class would make a file where it is imported; a teacher is passed over, others are refused."""
    (tmp_path / "trapped.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    bad: Any = "trapped.Net" if part == "class_path" else {"class_path": "trapped.Net"}
    where = "model/class_path" if part == "class_path" else f"{MODEL}/{part}"
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(put(recipe, where, bad)))
    read: Callable[[], Any] = lambda: checked(read_raw(path), "it")  # noqa: E731
    if part == "teacher":
        read()
    else:
        with pytest.raises(UserError, match=r"'trapped.Net'"):
            read()
    assert "trapped" not in sys.modules
