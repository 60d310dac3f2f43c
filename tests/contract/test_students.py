"""What every student must do, whatever it is made of.

Axes: B batch, C channels, N tokens, H W pixels.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import students
from distill.contracts import StudentBase
from distill.errors import UserError
from distill.evaluation.cost import count_macs
from distill.weights import load_student, write_weights
from tests.contract.cases import STUDENTS, Case, assert_reached, build_student, distance, images, overriding

SIZES = [(64, 96), (33, 50), (70, 41), (1, 1)]
ODD = (50, 37)


def assert_equal(maps: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(maps, expected, strict=True):
        assert torch.equal(one, other)


def assert_close(maps: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def weighted_sum(maps: list[Tensor]) -> Tensor:
    """A loss that no norm makes constant."""
    generator = torch.Generator().manual_seed(2)
    weights = (torch.randn(feature.shape, generator=generator) for feature in maps)
    return torch.stack([(feature.float() * w).mean() for feature, w in zip(maps, weights, strict=True)]).sum()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_maps_are_what_feature_info_announces(student: StudentBase, size: tuple[int, int]) -> None:
    """At any size; grids round up."""
    assert isinstance(student, StudentBase)
    strides = list(student.feature_info.reduction())
    assert strides == sorted(strides), "the last map is the deepest"
    maps = student(images(*size))
    assert isinstance(maps, list)
    assert [tuple(feature.shape) for feature in maps] == [
        (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(student.feature_info.channels(), strides, strict=True)
    ]
    assert all(feature.dtype == torch.float32 and feature.isfinite().all() for feature in maps)


def test_one_pixel_more_than_a_cell_of_the_coarsest_map_gives_every_map_two_rows(student: StudentBase) -> None:
    """Exported files take no smaller images."""
    rows: list[int] = []
    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: rows.append(output.shape[-2]))
    student(images(student.coarsest + 1, student.coarsest + 1))
    assert min(rows) == 2


def test_statistics(student: StudentBase) -> None:
    """Whoever calls a student normalises with these."""
    for statistics in (student.mean, student.std):
        assert len(statistics) == 3
        assert all(0 < value < 1 for value in statistics)


def test_training_and_eval_mode(student: StudentBase) -> None:
    """Eval mode repeats itself and changes nothing; without batch norms, training mode is the same."""
    normed = any(isinstance(module, _BatchNorm) for module in student.modules())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    maps = student(images())
    assert_equal(student(images()), maps)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    student.train()
    trained = student(images())
    assert all(torch.equal(one, other) for one, other in zip(trained, maps, strict=True)) != normed
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items()) != normed
    student.eval()
    assert not any(module.training for module in student.modules())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_a_gradient_reaches_every_parameter(student: StudentBase, autocast: bool, training: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = weighted_sum(student.train(training)(images()))
    loss.backward()
    assert_reached(student)


def test_nothing_of_a_frozen_student_is_in_the_graph(student: StudentBase) -> None:
    student.requires_grad_(False)
    assert not any(feature.requires_grad for feature in student(images()))


@pytest.mark.parametrize("name", [name for name, case in STUDENTS.items() if case.freezing])
def test_frozen_parts_stay(name: str) -> None:
    student = build_student(STUDENTS[name], **STUDENTS[name].freezing)
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
    assert frozen
    weighted_sum(student(images())).backward()
    assert_reached(student)
    torch.optim.AdamW(student.parameters(), lr=0.1, weight_decay=0.1).step()
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in frozen), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["double", "bfloat16"])
def test_weights_of_another_precision(student: StudentBase, dtype: torch.dtype) -> None:
    expected = student(images())
    maps = student.to(dtype)(images().to(dtype))
    for one, other in zip(maps, expected, strict=True):
        assert one.dtype == dtype
        assert distance(one, other) < (1e-4 if dtype == torch.float64 else 0.1)


def test_bfloat16_autocast(student: StudentBase) -> None:
    expected = student(images())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps = student(images())
    for one, other in zip(maps, expected, strict=True):
        assert one.dtype in (torch.bfloat16, torch.float32)
        assert distance(one, other) < 0.05


def test_a_state_dict_is_all_of_the_student(student_case: Case, student: StudentBase) -> None:
    student.train()(images())  # moves what batch norms remember
    expected = student.eval()(images())
    other = build_student(student_case, seed=9)
    assert not torch.equal(other(images())[-1], expected[-1])
    other.load_state_dict(student.state_dict(), strict=True)
    assert_equal(other(images()), expected)


def test_an_exported_file_rebuilds_the_student(student_case: Case, student: StudentBase, tmp_path: Path) -> None:
    student.train()(images())
    expected = student.eval()(images())
    path = tmp_path / "student.safetensors"
    name = f"students.{student_case.name}"
    write_weights(student, path, {"class": name, "init_args": student.init_args})
    torch.manual_seed(9)
    loaded = load_student(path)
    assert type(loaded) is type(student)
    assert_equal(loaded(images()), expected)
    again = getattr(students, student_case.name)(**student.init_args, checkpoint=str(path)).eval()
    assert_equal(again(images()), expected)
    write_weights(nn.Linear(1, 1), path, {"class": name, "init_args": student.init_args})
    with pytest.raises(UserError, match="does not fit"):
        load_student(path)


@pytest.mark.parametrize("prefix", ["student.", "model.student.", "_orig_mod."])
def test_weights_are_found_under_prefixes(
    student_case: Case, student: StudentBase, prefix: str, tmp_path: Path
) -> None:
    """Of a training state of this project, which holds the adapter too, of others and of `torch.compile`."""
    moved = {f"{prefix}{name}": tensor for name, tensor in student.state_dict().items()}
    moved |= {"adapter.projection.weight": torch.zeros(3, 3)} if prefix != "_orig_mod." else {}
    torch.save({"state_dict": moved, "global_step": 3}, tmp_path / "last.ckpt")
    torch.manual_seed(9)
    again = getattr(students, student_case.name)(**student.init_args, checkpoint=str(tmp_path / "last.ckpt"))
    state = again.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in student.state_dict().items())


def test_the_seed_determines_the_weights(student_case: Case) -> None:
    first, again, other = (build_student(student_case, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# Each is made of the parts of another one.
RELATIVES = ("EfficientViTSAM", "EfficientViT, two maps, half precision")


@pytest.mark.parametrize(
    "student_case",
    [pytest.param(name, marks=pytest.mark.slow) if name in RELATIVES else name for name in STUDENTS],
    indirect=True,
)
def test_compiles_in_one_graph(student: StudentBase) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(student, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert_close(compiled(images(*ODD)), student(images(*ODD)))


def test_channels_last(student: StudentBase) -> None:
    expected = student(images(*ODD))
    lasting = images(*ODD).contiguous(memory_format=torch.channels_last)
    assert_close(student(lasting), expected)
    assert_close(student.to(memory_format=torch.channels_last)(lasting), expected)


def test_images_of_a_batch_do_not_see_each_other(student: StudentBase) -> None:
    both = student(images(*ODD))
    for index in range(2):
        alone = student(images(*ODD)[index : index + 1])
        assert_close([feature[index : index + 1] for feature in both], alone)


@pytest.mark.parametrize("name", overriding("set_grad_checkpointing"))
def test_checkpointing_changes_memory_alone(name: str) -> None:
    def trained(checkpointing: bool) -> tuple[list[Tensor], list[Tensor], int]:
        """Maps, gradients, and the bytes that autograd keeps for them."""
        kept = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        student = build_student(STUDENTS[name]).train()
        student.set_grad_checkpointing(checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            maps = student(images())
        return maps, list(torch.autograd.grad(weighted_sum(maps), list(student.parameters()))), kept

    plain, lean = trained(checkpointing=False), trained(checkpointing=True)
    assert_equal(lean[0], plain[0])
    for one, other in zip(lean[1], plain[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert lean[2] < 0.8 * plain[2]
    student = build_student(STUDENTS[name])
    student.set_grad_checkpointing()
    with torch.no_grad():
        assert_equal(student(images()), build_student(STUDENTS[name])(images()))


@pytest.mark.parametrize("name", overriding("forward_corrupted"))
def test_tokens_can_be_corrupted(name: str) -> None:
    """Handed back as they are, nothing changes."""
    student, seen = build_student(STUDENTS[name]), []

    def look(tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(tokens)
        return tokens, torch.arange(tokens[..., 0].numel()).view(tokens.shape[:2]) % 2 == 0

    def erase(tokens: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(tokens), torch.ones(tokens.shape[:2], dtype=torch.bool)

    expected = student(images(*ODD))
    maps, touched = student.forward_corrupted(images(*ODD), look)
    assert_close(maps, expected)
    assert seen[0].ndim == 3
    assert seen[0].shape[::2] == (2, student.token_channels)
    assert torch.equal(touched, look(seen[0])[1])
    assert not torch.allclose(student.forward_corrupted(images(*ODD), erase)[0][-1], expected[-1], atol=1e-3)


def test_only_students_with_tokens_name_their_channels(student_case: Case, student: StudentBase) -> None:
    with_tokens = [STUDENTS[name] for name in overriding("forward_corrupted")]
    assert (student.token_channels is not None) == (student_case in with_tokens)
    if student.token_channels is None:
        with pytest.raises(NotImplementedError, match="has no tokens"):
            student.forward_corrupted(images(), lambda tokens: (tokens, tokens[..., 0] > 0))


def test_a_recipe_can_name_it(student_case: Case, student: StudentBase) -> None:
    assert student.class_path == f"students.{student_case.name}"
    assert student.is_project_student
    assert student.label.startswith(student_case.name)


@pytest.mark.parametrize("name", overriding("rescale_output"))
def test_output_starts_at_the_scale_it_is_told(name: str) -> None:
    student = build_student(STUDENTS[name])
    student.rescale_output(0.16)
    assert student(images())[-1].square().mean().sqrt().item() == pytest.approx(0.16, rel=1e-3)


@pytest.mark.parametrize("name", overriding("no_weight_decay"))
def test_parameters_without_decay_exist(name: str) -> None:
    student = build_student(STUDENTS[name])
    assert student.no_weight_decay()
    assert student.no_weight_decay() <= {name for name, _ in student.named_parameters()}


def test_multiply_adds_are_counted_without_memory(student_case: Case) -> None:
    with torch.device("meta"):
        hollow = build_student(student_case)
    assert count_macs(hollow, 64) == count_macs(build_student(student_case), 64)
