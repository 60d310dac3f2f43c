import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.errors import UserError
from distill.files import write_atomically
from distill.weights import (
    digest,
    load_matching,
    load_student,
    read_metadata,
    read_state_dict,
    read_training_checkpoint,
    read_training_step,
    write_weights,
)


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_reads_wrapped_and_data_parallel_state_dicts(tmp_path: Path, wrapper: str | None) -> None:
    module = nn.Linear(2, 3)
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "a.pth")
    read = read_state_dict(tmp_path / "a.pth")
    assert list(read) == ["weight", "bias"]
    assert torch.equal(read["weight"], module.weight)


def test_weights_round_trip_with_metadata(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    write_weights(module, tmp_path / "a.safetensors", {"class": "students.RS4D", "init_args": {"variant": "tiny"}})
    other = nn.Linear(2, 3)
    load_matching(other, read_state_dict(tmp_path / "a.safetensors"), "a")
    assert torch.equal(other.weight, module.weight)
    assert read_metadata(tmp_path / "a.safetensors") == {"class": "students.RS4D", "init_args": '{"variant": "tiny"}'}


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    with (tmp_path / "a.pth").open("wb") as file:
        pickle.dump({"weight": Bomb(tmp_path / "boom")}, file)
    torch.save({"weight": Bomb(tmp_path / "boom")}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match="refused"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02garbage")
    with pytest.raises(UserError, match=name):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [b"# Weights\n", b"", b'{"weight": [1.0]}'])
def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "README.md").write_bytes(content)
    with pytest.raises(UserError, match=r"README\.md' is no checkpoint"):
        read_state_dict(tmp_path / "README.md")


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_pytorch_are_read(tmp_path: Path, zipped: bool) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_state_dict(tmp_path / "a.pth")["weight"], torch.ones(2))


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_state_dict(tmp_path / "none.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(UserError, match="not a state dict"):
        read_state_dict(tmp_path / "empty.pth")


def test_another_architecture_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_matching(nn.Linear(2, 3), {"weight": torch.zeros(3, 4), "scale": torch.zeros(1)}, "file.pth")
    message = str(caught.value)
    assert "file.pth" in message
    assert "1 of 2 parameters are missing (first: bias)" in message
    assert "1 names are unknown (first: scale)" in message
    assert "(3, 4) in the file and (3, 2) in the model" in message
    assert "\n" not in message


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


def under(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}


def layouts() -> dict[str, dict[str, Any]]:
    """How training code saves a network, by the name of the layout."""
    module, other, head = network(), nn.Linear(5, 5), nn.Linear(3, 7)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    compiled = {"0._orig_mod.weight": module[0].weight, **under("", module)}
    del compiled["0.weight"]
    return {
        **{prefix: under(prefix, module) for prefix in ("teacher.", "backbone.", "model.", "student.", "module.")},
        "nested": under("module.student._orig_mod.model.", module),
        "compiled": under("_orig_mod.", module),
        "compiled inside": compiled,
        "averaged": {"n_averaged": torch.tensor(3)} | under("module.", module),
        "Lightning": {
            "epoch": 3,
            "state_dict": under("model.backbone.", module) | under("model.head.", head),
            "optimizer_states": [optimizer],
            "loops": {"fit_loop": {"state_dict": {}}},
        },
        "of this project": {
            "global_step": 5,
            "state_dict": under("student.", module) | under("adapter.", other) | under("teacher.", head),
        },
        "DINO's teacher": {"teacher": under("module.backbone.", module) | under("module.head.", head), "epoch": 1},
        "model and optimizer": {"model": under("", module), "optimizer": optimizer, "epoch": 1},
        "average alone": {"model": None, "ema": under("", module), "optimizer": optimizer},
        "tied": under("encoder.", module) | under("model.encoder.", module),
    }


@pytest.mark.parametrize("layout", layouts())
def test_a_network_is_found_under_any_prefix(layout: str, tmp_path: Path) -> None:
    torch.save(layouts()[layout], tmp_path / "a.pth")
    module, expected = network(seed=1), network().state_dict()
    load_matching(module, read_state_dict(tmp_path / "a.pth"), "a.pth")
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_two_networks_are_not_chosen_between(tmp_path: Path) -> None:
    content = {"student": under("module.backbone.", network(0)), "teacher": under("backbone.", network(1)), "epoch": 1}
    torch.save(content, tmp_path / "dino.pth")
    with pytest.raises(
        UserError, match=r"2 times, under 'student\.module\.backbone\.' and 'teacher\.backbone\.'; write"
    ) as caught:
        load_matching(network(2), read_state_dict(tmp_path / "dino.pth"), tmp_path / "dino.pth")
    assert "\n" not in str(caught.value)
    # Of another shape, a teacher is no rival.
    content["teacher"] = under("backbone.", nn.Sequential(nn.Linear(2, 9), nn.BatchNorm1d(9), nn.Linear(9, 1)))
    torch.save(content, tmp_path / "dino.pth")
    module = network(2)
    load_matching(module, read_state_dict(tmp_path / "dino.pth"), "dino.pth")
    assert torch.equal(module[0].weight, network(0)[0].weight)


def test_averaged_weights_beside_others_are_announced(tmp_path: Path) -> None:
    """As timm and DeiT save them; which are loaded is what it always was, but said."""
    torch.save(
        {"state_dict": under("", network(0)), "state_dict_ema": under("", network(1)), "epoch": 2}, tmp_path / "a.pth"
    )
    with pytest.warns(
        UserWarning, match="under 'state_dict', which are loaded, and the same names under 'state_dict_ema'"
    ):
        state = read_state_dict(tmp_path / "a.pth")
    assert torch.equal(state["0.weight"], network(0)[0].weight)


def test_prefixes_are_listed_where_nothing_fits() -> None:
    state = under("encoder.", nn.Conv2d(1, 1, 1)) | under("decoder.", nn.Conv2d(1, 1, 1))
    with pytest.raises(UserError, match=r"its names begin with decoder\., encoder\.;"):
        load_matching(network(), state, "a.pth")
    wider = under("teacher.", nn.Sequential(nn.Linear(2, 9), nn.BatchNorm1d(9), nn.Linear(9, 1)))
    with pytest.raises(
        UserError, match=r"the part under 'teacher\.' is nearest, does not fit Sequential: 0\.weight is \(9, 2\)"
    ):
        load_matching(network(), wider, "a.pth")


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(UserError, match=r"a\.txt cannot be written \(disk full\)"):
        write_atomically(target, fail)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("parent", ["/proc/none", "file"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / parent / "a.safetensors"
    with pytest.raises(UserError, match=f"{target} cannot be written"):
        write_weights(nn.Linear(2, 3), target, {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt cannot be written \(No space left on device\)"):
        write_atomically(tmp_path / "a.txt", lambda _: Path("/dev/full").write_text("text"))
    assert not list(tmp_path.iterdir())


def test_digest_follows_the_weights() -> None:
    torch.manual_seed(0)
    module = nn.Linear(2, 3)
    before = digest(module)
    assert before == digest(module)
    with torch.no_grad():
        module.bias[0] += 1e-3
    assert digest(module) != before


def test_digest_takes_scalars_and_nothing() -> None:
    """A batch norm counts its batches in a scalar."""
    module = nn.BatchNorm2d(2)
    module.register_buffer("nothing", torch.zeros(0))
    before = digest(module)
    module.num_batches_tracked += 1
    assert digest(module) != before


def test_reads_training_checkpoints_alone(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1)}, "global_step": 7, "class_names": ["x"]}, path)
    assert read_training_checkpoint(path)["class_names"] == ["x"]
    assert read_training_step(path) == 7
    torch.save({"state_dict": {"a": torch.ones(1)}}, path)
    for read in (read_training_checkpoint, read_training_step):
        with pytest.raises(UserError, match="is no training checkpoint"):
            read(path)


def test_a_class_that_does_not_take_the_stored_arguments(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    write_weights(nn.Linear(1, 1), path, {"class": "mine.Own", "init_args": {"width": 3}})
    with pytest.raises(
        UserError, match=r"holds a mine\.Own that cannot be built: .*width.*; pass a function that takes"
    ):
        load_student(path, lambda: nn.Linear(1, 1))


def test_files_of_equal_weights_and_metadata_have_equal_bytes(tmp_path: Path) -> None:
    """The library alone writes metadata in an order that differs between calls."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    metadata = {f"key{number}": "ö" * number for number in range(8)}
    files = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for file in files:
        write_weights(module, file, metadata)
    assert len({file.read_bytes() for file in files}) == 1
    assert read_metadata(files[0]) == metadata
    for name, tensor in read_state_dict(files[0]).items():
        assert torch.equal(tensor, module.state_dict()[name]), name
