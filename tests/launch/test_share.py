"""A run is shared as a folder and on a hub, and what is taken from there is the run, to the bit, and nothing else."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import distill
from distill.cli import main
from distill.errors import UserError
from distill.launch.predictors import Instances
from distill.launch.stored_run import StoredRun
from distill.weights import write_weights
from tests.launch.hub_stub import Hub, lead_to, serving
from tests.small_recipes import fine_tuning

CLASSES = ["ship / boat", "building"]
TENSORS = ("boxes", "scores", "labels", "masks")
FILES = {"model.safetensors", "config.json", "recipe.yaml", "README.md"}
NAME = "somebody/ships"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run folder as a fit leaves it, with random weights, from a recipe that tells much of its machine."""
    home = str(Path.home())
    folder = tmp_path_factory.mktemp("runs") / "ships"
    recipe = fine_tuning(scenes, folder)
    recipe["model"]["init_args"]["student"]["init_args"]["checkpoint"] = f"{home}/secret/student.safetensors"
    head = recipe["model"]["init_args"]["head"]["init_args"]
    head |= {"score_threshold": 0.0, "overrides": {"rpn_head.loss_bbox.type": "L1Loss"}}
    recipe["trainer"]["logger"] = {"class_path": "pytorch_lightning.loggers.WandbLogger", "init_args": {"entity": "me"}}
    recipe["trainer"]["callbacks"] = [
        {"class_path": "distill.EMA", "init_args": {"decay": 0.5}},
        {"class_path": "lightning.Other", "init_args": {"dirpath": "/scratch/me"}},
    ]
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    torch.manual_seed(0)
    task = StoredRun(folder).task()
    task.build(CLASSES)
    (folder / "checkpoints").mkdir()
    state = {"global_step": 8, "state_dict": task.state_dict(), "class_names": CLASSES}
    torch.save(state, folder / "checkpoints" / "last.ckpt")
    write_weights(task.student, folder / "student.safetensors", {"class": "students.RS4D"})
    facts = {"task": "instances", "student": "RS4D tiny", "head": "MaskRCNN", "image_size": 64, "steps": 8, "gsd": 0.5}
    facts |= {"image_side": 64, "largest_side": 64, "object_side": 20.0, "params": 800_000, "macs": 5_000_000}
    facts |= {"init": "distilled", "init_teacher": "ViT vit_tiny_patch16_224"}
    (folder / "summary.json").write_text(json.dumps({**facts, "val/mask/AP": 0.1}))
    (folder / "test.json").write_text(json.dumps({"test/mask/AP": 0.25, "test/mask/AP/building": 0.5}))
    scored = {"checkpoint": f"{home}/secret/last.ckpt", "step": 8, "images": 4, "image_set": "5ae2", "overrides": {}}
    (folder / "test_facts.json").write_text(json.dumps(scored))
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "cache") as found:
        yield found


@pytest.fixture(scope="module")
def pushed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed") / "model"
    distill.push(run, folder, licence="apache-2.0")
    return folder


@pytest.fixture
def model(pushed: Path, tmp_path: Path) -> Path:
    """A shared model, to be changed."""
    return Path(shutil.copytree(pushed, tmp_path / "model"))


def predicted(place: Path | str, scenes: Path) -> list[Instances]:
    found: list[Instances] = distill.load(place, device="cpu").predict(
        sorted((scenes / "test" / "images").iterdir())[:2]
    )
    return found


@pytest.fixture(scope="module")
def of_run(run: Path, scenes: Path) -> list[Instances]:
    return predicted(run, scenes)


def same(one: list[Instances], other: list[Instances]) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for a, b in zip(one, other, strict=True) for n in TENSORS)


def test_a_shared_model_predicts_what_the_run_does(
    run: Path, of_run: list[Instances], pushed: Path, scenes: Path, tmp_path: Path
) -> None:
    """Whole, as a student, and on scenes, whose tiles are cut by what the summary knew."""
    shared = predicted(pushed, scenes)
    assert all(map(len, of_run))
    assert same(of_run, shared)
    assert shared[0].class_names == CLASSES
    image = next((scenes / "test" / "images").iterdir())
    maps = [distill.load(place, part="student", device="cpu").predict(image) for place in (run, pushed)]
    assert all(torch.equal(a, b) for a, b in zip(*maps, strict=True))
    for place in (run, pushed):
        distill.predict(place, image, out=tmp_path / place.name, device="cpu", score=0.0, overlay=False)
    found = [(tmp_path / place.name / "predictions.json").read_bytes() for place in (run, pushed)]
    assert len(found[0]) > 100
    assert found[0] == found[1]
    with pytest.raises(UserError, match="one set of weights; leave out checkpoint, 'best'"):
        distill.load(pushed, checkpoint="best")


def test_what_is_shared_tells_nothing_of_the_machine(pushed: Path, scenes: Path) -> None:
    assert {path.name for path in pushed.iterdir()} == FILES
    for name in FILES - {"model.safetensors"}:
        text = (pushed / name).read_text()
        for private in (str(Path.home()) + "/", str(scenes), "secret", "/scratch", "entity", "lightning.Other"):
            assert private not in text, (name, private)
    recipe = yaml.safe_load((pushed / "recipe.yaml").read_text())
    assert set(recipe) == {"trainer", "model", "data"}
    assert recipe["data"]["init_args"]["train_annotations"] == "annotations.json"
    assert recipe["data"]["init_args"]["train_images"] is None
    assert [callback["class_path"] for callback in recipe["trainer"]["callbacks"]] == ["distill.EMA"]


def test_the_card_is_one_of_the_hub(pushed: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(pushed / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "distill"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("mask/AP", 0.25, "test")
    text = " ".join(card.text.split())
    assert "| teacher ViT vit_tiny_patch16_224 | unknown; ask who published them |" in text
    assert "Test: last.ckpt, step 8, 4 images, image set 5ae2" in text
    assert "Trained on pixels of 0.5 m and objects up to about 20.0 px" in text
    assert "| classes | ship / boat, building |" in text


def test_through_the_hub(
    run: Path,
    of_run: list[Instances],
    pushed: Path,
    hub: Hub,
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pushed with an exported file, pulled, loaded by its address, and loaded again without the hub."""
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"a graph")
    assert main(["push", str(run), f"hf://{NAME}", "--with", str(onnx), "--license", "apache-2.0"]) == 0
    said = capsys.readouterr().out
    assert f"{hub.address}/{NAME}/commit/{hub.commit(NAME)}" in said
    assert hub.made[0]["visibility"] == "private"
    files = hub.repositories[NAME]
    assert set(files) == FILES | {"model.onnx"}
    assert files["model.safetensors"] == (pushed / "model.safetensors").read_bytes()
    assert files["README.md"].decode().count(f"hf://{NAME}") == 2
    files |= {"pytorch_model.bin": b"a pickle", "code.py": b"import os"}
    assert main(["pull", f"hf://{NAME}@main", str(tmp_path / "pulled")]) == 0
    assert {path.name for path in (tmp_path / "pulled").iterdir()} == FILES | {"model.onnx"}
    assert all((tmp_path / "pulled" / name).read_bytes() == files[name] for name in FILES)
    del files["pytorch_model.bin"]
    assert same(predicted(f"hf://{NAME}", scenes), of_run)
    distill.load(f"hf://{NAME}@{hub.commit(NAME)}", part="student")
    assert not [request for request in hub.requests if "code.py" in request]
    distill.push(run, f"hf://{NAME}")
    assert set(files) == FILES | {"code.py"}, "an export of other weights would stay"
    hub.hidden.add(NAME)
    distill.load(f"hf://{NAME}", part="student")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("hf://ships", "is no address of a model; give hf://owner/name"),
        ("hf://a/../b", "is no address of a model"),
        ("hf://nobody/ships", "no such repository, or it is private or gated; log in with `hf auth login`"),
        (f"hf://{NAME}@v2", "the repository has no revision 'v2'"),
        (f"hf://{NAME}", "is no model that `distill push` wrote: it has no model.safetensors"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(hub: Hub, tmp_path: Path, place: str, message: str) -> None:
    hub.repositories[NAME] = {"README.md": b"# Ships", "last.ckpt": b"a pickle"}
    for take in (lambda: distill.load(place), lambda: distill.pull(place, tmp_path / "pulled")):
        with pytest.raises(UserError) as error:
            take()
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "pulled").exists()


def test_who_may_not_write_is_told(run: Path, hub: Hub) -> None:
    hub.repositories[NAME] = {}
    hub.read_only = True
    with pytest.raises(UserError, match=r"cannot be written \(.*; log in with `hf auth login`"):
        distill.push(run, f"hf://{NAME}")
    assert not hub.repositories[NAME]


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lead_to(monkeypatch, "http://127.0.0.1:9", tmp_path)  # where nothing listens
    with pytest.raises(UserError, match=r"the Hugging Face Hub cannot be reached .* fetch it once with a network"):
        distill.load(f"hf://{NAME}")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the Hugging Face Hub cannot be reached .*offline mode"):
        distill.pull(f"hf://{NAME}", tmp_path / "pulled")


def test_an_interrupted_pull_leaves_the_folder_as_it_was(
    pushed: Path, model: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hub breaks off, and where the user does while files are copied."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.repositories[NAME] = {path.name: path.read_bytes() for path in pushed.iterdir()}
    hub.broken = "model.safetensors"
    with pytest.raises(UserError, match=f"hf://{NAME} cannot be fetched"):
        distill.pull(f"hf://{NAME}", tmp_path / "pulled")
    (model / "recipe.yaml").write_text("old")
    before = sorted(path for path in tmp_path.iterdir() if path.name != "cache")

    def interrupted(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("distill.launch.share.shutil.copyfile", interrupted)
        for place in (tmp_path / "pulled", model):
            with pytest.raises(KeyboardInterrupt):
                distill.pull(pushed, place)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
    assert (model / "recipe.yaml").read_text() == "old"
    distill.pull(pushed, model)
    assert (model / "recipe.yaml").read_bytes() == (pushed / "recipe.yaml").read_bytes()
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
    (model / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files, such as notes.txt; name an empty folder"):
        distill.pull(pushed, model)


def test_a_run_of_other_classes_cannot_be_shared(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    text = (other / "recipe.yaml").read_text().replace("students.RS4D", "mine.Student")
    (other / "recipe.yaml").write_text(text)
    with pytest.raises(UserError, match=r"other cannot be shared: .*'mine.Student' as model.student"):
        distill.push(other, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["weights.bin", "model.pt2", "none.onnx", "model.xml"])
def test_only_exported_files_go_along(run: Path, tmp_path: Path, name: str) -> None:
    for there in ("weights.bin", "model.pt2", "model.xml"):
        (tmp_path / there).write_bytes(b"")
    with pytest.raises(UserError, match=r"is no exported file|there is no file"):
        distill.push(run, tmp_path / "model", exported=[tmp_path / name])
    assert not (tmp_path / "model").exists()


def test_pickled_weights_are_refused(model: Path, tmp_path: Path) -> None:
    """In place of safetensors, and beside a run's own names."""
    torch.save({"global_step": 1, "state_dict": {"a": Trap(tmp_path / "run")}}, tmp_path / "last.ckpt")
    shutil.copy(tmp_path / "last.ckpt", model / "model.safetensors")
    (model / "checkpoints").mkdir()
    shutil.copy(tmp_path / "last.ckpt", model / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"model.safetensors' cannot be read"):
        distill.load(model, device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["student", "head", "head/init_args/overrides/rpn_head", "student/init_args/variant"])
def test_a_recipe_that_would_run_a_program_is_refused(
    model: Path, scenes: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = yaml.safe_load((model / "recipe.yaml").read_text())
    node = recipe["model"]["init_args"]
    *parents, last = where.split("/")
    for name in parents:
        node = node[name]
    node[last] = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "ran")]}}
    (model / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    image = str(next((scenes / "test" / "images").iterdir()))
    assert main(["predict", str(model), image, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the recipe of {model} names 'subprocess.Popen' as model.{where.split('/')[0]}" in line
    assert main(["pull", str(model), str(tmp_path / "pulled")]) == 2
    assert not any((tmp_path / name).exists() for name in ("ran", "out", "pulled"))


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_model_of_another_network_is_refused(model: Path) -> None:
    recipe = (model / "recipe.yaml").read_text()
    (model / "recipe.yaml").write_text(recipe.replace("fc_channels: 32", "fc_channels: 48"))
    with pytest.raises(UserError, match=r"model.safetensors' does not fit FineTuningModule"):
        distill.load(model, device="cpu")


def test_other_files_than_those_of_a_model_are_named(model: Path) -> None:
    (model / "config.json").write_text('{"class_names": [], "facts": {"image_side": "{a: b}"}}')
    with pytest.raises(UserError, match=r"has image_side '{a: b}', no number"):
        distill.load(model)
    (model / "config.json").write_text("{}")
    with pytest.raises(UserError, match="has no class names or no facts"):
        distill.load(model)
    (model / "config.json").unlink()
    with pytest.raises(UserError, match=r"is no model that `distill push` wrote: it has no config.json"):
        distill.load(model)
