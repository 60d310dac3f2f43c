from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from distill.errors import UserError
from distill.weights import write_weights
from students import TimmStudent
from teachers import ViT

Build = Callable[..., Any]
NAME = "vit_tiny_patch16_224"
# Class token; and registers; rotary positions, without and with biases; MAE; no class token; two class tokens; no norm.
FAMILIES = [
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m",
    "vit_small_patch16_dinov3_qkvb.lvd1689m",
    "vit_base_patch16_224.mae",
    "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k",
    "deit_tiny_distilled_patch16_224",
    "eva02_tiny_patch14_224.mim_in22k",
]


def normalised(images: torch.Tensor, name: str) -> torch.Tensor:
    config = timm.models.get_pretrained_cfg(name)
    return (images - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)


def as_map(tokens: torch.Tensor, prefix: int, grid: tuple[int, int]) -> torch.Tensor:
    batch, _, channels = tokens.shape
    return tokens[:, prefix:].reshape(batch, *grid, channels).permute(0, 3, 1, 2)


def save_student(student: TimmStudent, folder: Path) -> Path:
    """Writes a student as a run does."""
    path = folder / "student.safetensors"
    write_weights(student, path, {"class": "students.TimmStudent", "init_args": student.init_args})
    return path


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_timms_tokens(name: str, tmp_path: Path, tiny: dict[str, int], randomized: Build) -> None:
    reference = randomized(name, dynamic_img_size=True, num_classes=5, **tiny)
    torch.save(reference.state_dict(), tmp_path / "vit.pth")
    teacher = ViT(name, str(tmp_path / "vit.pth"), blocks=[2, 0], options=tiny)
    images = torch.rand(2, 3, 80, 48)
    blocks: list[torch.Tensor] = []
    for block in reference.blocks:
        block.register_forward_hook(lambda _m, _x, y: blocks.append(y))
    with torch.no_grad():
        tokens = reference.forward_features(normalised(images, name))

    features = teacher(images)
    assert list(features) == list(teacher.channels) == ["embedding", "block_0", "block_2"]
    close = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(features["embedding"], as_map(tokens, reference.num_prefix_tokens, (5, 3)), **close)
    for i in (0, 2):
        torch.testing.assert_close(
            features[f"block_{i}"], as_map(blocks[i], reference.num_prefix_tokens, (5, 3)), **close
        )
    alone = ViT(name, str(tmp_path / "vit.pth"), options=tiny)(images)
    assert list(alone) == ["embedding"]
    torch.testing.assert_close(alone["embedding"], features["embedding"])


def test_pads_to_whole_patches(tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    teacher = ViT(NAME, str(tiny_checkpoint), options=tiny)
    images = torch.rand(1, 3, 50, 70)
    padded = torch.full((1, 3, 64, 80), 0.5)  # the mean, which normalisation turns into zeros
    padded[:, :, :50, :70] = images
    features = teacher(images)["embedding"]
    assert features.shape == (1, 32, 4, 5)
    torch.testing.assert_close(features, teacher(padded)["embedding"])


def test_satellite_weights_bring_their_statistics(tmp_path: Path, tiny: dict[str, int], randomized: Build) -> None:
    name = "vit_large_patch16_dinov3.sat493m"
    torch.save(randomized(name, num_classes=0, **tiny).state_dict(), tmp_path / "vit.pth")
    teacher = ViT(name, str(tmp_path / "vit.pth"), options=tiny)
    assert teacher.mean == (0.430, 0.411, 0.296)
    assert teacher.std == (0.213, 0.156, 0.143)
    torch.testing.assert_close(teacher.offset.flatten(), torch.tensor(teacher.mean))


def test_reads_the_official_dinov2_layout(tmp_path: Path, tiny: dict[str, int], randomized: Build) -> None:
    name = "vit_small_patch14_reg4_dinov2.lvd142m"
    reference = randomized(name, num_classes=0, **tiny)
    official = {"mask_token": torch.zeros(1, 32)}
    for key, value in reference.state_dict().items():
        official["register_tokens" if key == "reg_token" else key] = value
    cls_position = torch.randn(
        1, 1, 32
    )  # the official table has a row for the class token, timm folds it into the token
    official["pos_embed"] = torch.cat([cls_position, reference.pos_embed.detach()], dim=1)
    official["cls_token"] = reference.cls_token.detach() - cls_position
    torch.save(official, tmp_path / "dinov2.pth")
    torch.save(reference.state_dict(), tmp_path / "timm.pth")
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(
        ViT(name, str(tmp_path / "dinov2.pth"), options=tiny)(images),
        ViT(name, str(tmp_path / "timm.pth"), options=tiny)(images),
    )


def test_reads_the_official_dinov3_layout(
    tmp_path: Path, tiny: dict[str, int], randomized: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "vit_large_patch16_dinov3.sat493m"
    reference = randomized(name, num_classes=0, **tiny)
    official = {"mask_token": torch.zeros(1, 32), "rope_embed.periods": torch.zeros(4)}
    for key, value in reference.state_dict().items():
        key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma").replace("reg_token", "storage_tokens")
        official[key] = value
    for i in range(3):
        official[f"blocks.{i}.attn.qkv.bias"] = torch.zeros(96)
        official[f"blocks.{i}.attn.qkv.bias_mask"] = torch.zeros(96)
    torch.save(official, tmp_path / "dinov3.pth")
    torch.save(reference.state_dict(), tmp_path / "timm.pth")
    assert (
        ViT(name, str(tmp_path / "dinov3.pth"), options=tiny).digest
        == ViT(name, str(tmp_path / "timm.pth"), options=tiny).digest
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "name",
    [NAME, "vit_small_patch14_dinov2", "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "vit_tiny_r_s16_p8_224"],
)
@pytest.mark.parametrize("out_indices", [[0, 1, 2], [0, 1]])
def test_reads_a_vit_that_was_trained_as_a_student(
    name: str, out_indices: list[int], tmp_path: Path, tiny: dict[str, int]
) -> None:
    torch.manual_seed(0)
    student = TimmStudent(name, out_indices, options=tiny).eval()
    path = save_student(student, tmp_path)
    teacher = ViT(name, str(path), blocks=[0])
    assert (teacher.mean, teacher.std) == (student.mean, student.std)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = student(normalised(images, name))
    features = teacher(images)
    torch.testing.assert_close(features["block_0"], maps[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features["embedding"], maps[-1], atol=1e-5, rtol=1e-4)
    assert ViT(name, str(path), options=tiny).digest == teacher.digest


def test_checks_what_a_student_file_says_it_holds(tmp_path: Path, tiny: dict[str, int]) -> None:
    path = save_student(TimmStudent(NAME, options=tiny), tmp_path)
    with pytest.raises(
        UserError, match=r"holds students\.TimmStudent with .*not the timm model 'vit_small_patch16_224'"
    ):
        ViT("vit_small_patch16_224", str(path))
    with pytest.raises(UserError, match=r"was trained with options .*leave model\.teacher\.options out"):
        ViT(NAME, str(path), options=tiny | {"depth": 2})


def test_a_missing_norm_is_an_error_outside_student_files(
    tmp_path: Path, tiny: dict[str, int], randomized: Build
) -> None:
    state = randomized(NAME, num_classes=0, **tiny).state_dict()
    del state["norm.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"missing \(first: norm\.weight\)"):
        ViT(NAME, str(tmp_path / "model.safetensors"), options=tiny)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_tiny_patch61_224", None, r"unknown timm model 'vit_tiny_patch61_224'.*did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.mine", None, r"Invalid pretrained tag \(mine\)"),
        ("vit_tiny_patch16_224", {"deepness": 3}, r"options \{'deepness': 3\}.*unexpected keyword argument 'deepness'"),
        ("vit_tiny_patch16_224", {"num_heads": 0}, r"options \{'num_heads': 0\} \(integer .*by zero\)"),
        ("vit_tiny_patch16_224", {"img_size": [64]}, r"options \{'img_size': \[64\]\} \(tuple index out of range\)"),
        (
            "vit_tiny_patch16_224",
            {"in_chans": 4},
            r"teacher\.options has in_chans 4; leave it out: a teacher takes RGB",
        ),
        ("vit_tiny_patch16_224", {"pretrained": True}, r"has pretrained True; .*teacher\.pretrained says whether"),
        ("vit_tiny_patch16_224", {"checkpoint_path": "a.pth"}, r"has checkpoint_path 'a\.pth'; .*teacher\.checkpoint "),
        ("samvit_base_patch16", {"depth": 1, "embed_dim": 24}, r"samvit_\* is teachers\.SAM"),
        ("resnet18", {}, r"'resnet18' is not a plain ViT"),
    ],
)
def test_refuses_models_it_cannot_be(name: str, options: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ViT(name, options=options)


def test_refuses_weights_of_another_architecture(tmp_path: Path, tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"does not fit VisionTransformer.*blocks\.3"):
        ViT(NAME, str(tiny_checkpoint), options=tiny | {"depth": 4})
    with pytest.raises(UserError, match="does not fit Eva"):
        ViT("vit_small_patch16_dinov3", str(tiny_checkpoint), options=tiny)
    with pytest.raises(UserError, match="does not exist"):
        ViT(NAME, str(tmp_path / "nothing.safetensors"), options=tiny)


@pytest.mark.usefixtures("no_network")
def test_tells_an_offline_user_what_to_download(tiny: dict[str, int]) -> None:
    name = "vit_large_patch16_dinov3.sat493m"
    with pytest.raises(UserError, match=rf"https://huggingface\.co/timm/{name} .*model\.teacher\.checkpoint"):
        ViT(name, options=tiny)


def test_takes_options_as_recipes_give_them(tmp_path: Path, tiny: dict[str, int], randomized: Build) -> None:
    options: dict[str, Any] = tiny | {"img_size": [64, 96]}
    torch.save(randomized(NAME, num_classes=0, **options).state_dict(), tmp_path / "vit.pth")
    assert ViT(NAME, str(tmp_path / "vit.pth"), options=options)(torch.rand(1, 3, 64, 96))["embedding"].shape == (
        1,
        32,
        4,
        6,
    )
