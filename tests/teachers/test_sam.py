"""The oracle is segment-anything itself, with random weights in its own checkpoint layout."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import UserError
from distill.evaluation.cost import count_macs, count_macs_of_frozen
from teachers import SAM
from teachers.sam_encoder import _Block, _padded

pytestmark = pytest.mark.xdist_group("sam")  # its 360 MB of weights are written and loaded once

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])  # of segment-anything


@pytest.fixture(scope="module")
def oracle() -> ImageEncoderViT:
    """ViT-B as `build_sam_vit_b` makes it, with every table and scale random."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "rel_pos" in name:
                parameter.normal_(std=0.5)
            elif "norm" in name or "bias" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        # Faint tokens, so that the epsilon of the first norm shows in the result.
        encoder.pos_embed.normal_(std=0.003)
        encoder.patch_embed.proj.weight.mul_(0.01)
        encoder.patch_embed.proj.bias.mul_(0.01)
    return encoder.eval()


@pytest.fixture(scope="module")
def checkpoint(oracle: ImageEncoderViT, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b.pth"
    others = {"prompt_encoder.not_a_point_embed.weight": torch.zeros(1, 256), "mask_decoder.x": torch.zeros(1)}
    torch.save({f"image_encoder.{key}": value for key, value in oracle.state_dict().items()} | others, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def teacher(checkpoint: Path) -> SAM:
    return SAM("sam_vit_b", str(checkpoint), blocks=[0, 2, 11], precision="float32")


def expected(oracle: ImageEncoderViT, images: Tensor) -> dict[str, Tensor]:
    """The oracle's features for RGB in [0, 1], its position embedding resized to the padded image's grid."""
    images = (images * 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    images = F.pad(images, (0, -images.shape[3] % 16, 0, -images.shape[2] % 16))
    grid = (images.shape[2] // 16, images.shape[3] // 16)
    maps: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _m, _x, y, i=i: maps.update({f"block_{i}": y.permute(0, 3, 1, 2)}))
        for i, block in enumerate(oracle.blocks)
    ]
    original = oracle.pos_embed
    try:
        if grid != (64, 64):
            resized = F.interpolate(original.permute(0, 3, 1, 2), grid, mode="bicubic", antialias=True)
            oracle.pos_embed = nn.Parameter(resized.permute(0, 2, 3, 1))
        with torch.no_grad():
            maps["neck"] = oracle(images)
    finally:
        oracle.pos_embed = original
        for hook in hooks:
            hook.remove()
    return maps


def assert_equal(teacher: SAM, oracle: ImageEncoderViT, size: tuple[int, int]) -> None:
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    features = teacher(images)
    reference = expected(oracle, images)
    assert list(features) == list(teacher.channels)
    for name, feature in features.items():
        torch.testing.assert_close(feature, reference[name], atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert features["neck"].shape == (1, 256, -(-size[0] // 16), -(-size[1] // 16))


@pytest.mark.parametrize(
    "size",
    [(224, 224), (240, 112), (64, 272), (100, 150)],
    ids=["whole windows", "padded windows", "one row of windows", "padded image"],
)
def test_equals_segment_anything(teacher: SAM, oracle: ImageEncoderViT, size: tuple[int, int]) -> None:
    assert_equal(teacher, oracle, size)


@pytest.mark.slow
def test_equals_segment_anything_at_native_size(teacher: SAM, oracle: ImageEncoderViT) -> None:
    assert_equal(teacher, oracle, (1024, 1024))


def test_equals_segment_anything_at_native_size_through_a_global_block(
    teacher: SAM, oracle: ImageEncoderViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A global block and the neck, for a twelfth of the time of all; the other sizes have windows, too."""
    monkeypatch.setattr(teacher, "channels", {"neck": 256, "block_0": 768})
    monkeypatch.setattr(teacher, "reduction", dict.fromkeys(teacher.channels, 16))
    monkeypatch.setattr(teacher, "blocks", [0])
    monkeypatch.setitem(teacher.encoder._modules, "blocks", teacher.encoder.blocks[2:3])
    monkeypatch.setattr(teacher, "_fast", teacher._prepared())
    monkeypatch.setitem(oracle._modules, "blocks", oracle.blocks[2:3])
    assert_equal(teacher, oracle, (1024, 1024))


def test_image_size_prepares_the_same_tables(checkpoint: Path, oracle: ImageEncoderViT) -> None:
    small = SAM("samvit_base_patch16", str(checkpoint), image_size=160, precision="float32")
    assert small.encoder.pos_embed.shape[1:3] == (10, 10)
    assert small.encoder.blocks[2].attn.rel_pos_h.shape[0] == 19
    images = torch.rand(1, 3, 160, 160)
    features = small(images)
    assert list(features) == list(small.channels) == ["neck"]
    torch.testing.assert_close(features["neck"], expected(oracle, images)["neck"], atol=1e-4, rtol=1e-4)


def slow_twin(teacher: SAM, images: Tensor) -> dict[str, Tensor]:
    """The features that timm's module computes from the same weights, in float32."""
    with torch.no_grad():
        neck, maps = teacher.encoder.forward_intermediates((images - teacher.offset) / teacher.scale, teacher.blocks)
    return {"neck": neck} | {f"block_{i}": x for i, x in zip(teacher.blocks, maps, strict=True)}


def errors(teacher: SAM, images: Tensor) -> dict[str, float]:
    """How far features are from those of the slow twin, relative to their L2 norm."""
    expected = slow_twin(teacher, images)
    return {name: float((x - expected[name]).norm() / expected[name].norm()) for name, x in teacher(images).items()}


def test_equals_timm_on_a_batch(teacher: SAM) -> None:
    images = torch.rand(2, 3, 240, 96, generator=torch.Generator().manual_seed(2))
    assert max(errors(teacher, images).values()) < 1e-5


def test_windows_in_turn_equal_all_windows_in_one_call(teacher: SAM) -> None:
    """As devices other than a CPU take them."""
    block = _Block(teacher.encoder.blocks[0], torch.float32)
    qkv = torch.randn(2, 20, 17, 3 * 768, generator=torch.Generator().manual_seed(4))
    padded = _padded(qkv, (14, 14), block.bias["qkv"])
    assert padded.shape[:3] == (2, 28, 28)
    assert _padded(padded, (14, 14), block.bias["qkv"]) is padded
    with torch.no_grad():
        torch.testing.assert_close(block._attention(qkv), block._attention(padded)[:, :20, :17], atol=1e-5, rtol=1e-5)


def test_bfloat16_differs_by_less_than_one_percent(checkpoint: Path, teacher: SAM) -> None:
    """Also where three channels are a hundred times the others, as in trained transformers (arXiv 2402.17762)."""
    coarse = SAM("sam_vit_b", str(checkpoint), blocks=[0, 2, 11], precision="bfloat16")
    assert coarse.digest == teacher.digest
    images = torch.rand(1, 3, 240, 160, generator=torch.Generator().manual_seed(3))
    before = errors(coarse, images)
    assert 1e-4 < before["neck"] < 0.01
    assert max(before.values()) < 0.01

    outliers = coarse.state_dict()
    for index in (1, 4):
        outliers[f"encoder.blocks.{index}.mlp.fc2.bias"][[5, 300, 700]] += 100
    coarse.load_state_dict(outliers)
    after = errors(coarse, images)
    assert after != before
    assert max(after.values()) < 0.01


def test_auto_takes_what_the_processor_is_fast_at(teacher: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "_chosen_precision", "auto")
    for fast, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        assert teacher.precision == precision
        assert teacher._prepared().dtype == getattr(torch, precision)


def test_its_precision_is_its_own(teacher: SAM) -> None:
    images = torch.rand(1, 3, 64, 64)
    expected = teacher(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(x, expected[name]) for name, x in teacher(images).items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_multiply_adds_are_counted_without_computing(checkpoint: Path, teacher: SAM, precision: str) -> None:
    """224 px fill windows, which timm pads before it projects them."""
    sam = SAM(checkpoint=str(checkpoint), precision=precision)
    assert count_macs_of_frozen(sam, 224) == count_macs(teacher.encoder, 224)


def test_reads_timms_layout(teacher: SAM, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file(teacher.encoder.state_dict(), path)
    again = SAM("samvit_base_patch16.sa1b", str(path), blocks=[0])
    path.unlink()
    assert again.name == teacher.name == "sam_vit_b"
    assert again.digest == teacher.digest
    assert again.channels == {"neck": 256, "block_0": 768}
    assert again.reduction == {"neck": 16, "block_0": 16}


def test_refuses_weights_of_another_variant(checkpoint: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match="does not fit VisionTransformerSAM"):
        SAM("sam_vit_b", str(tiny_checkpoint))


def test_refuses_unknown_names_sizes_precisions_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown SAM teacher .*'sam_vit_x'.*sam_vit_b, sam_vit_l, sam_vit_h"):
        SAM("sam_vit_x")
    with pytest.raises(UserError, match=r"image size 1000 is no multiple of 16 px.*for example 992"):
        SAM(image_size=1000)
    with pytest.raises(UserError, match=r"unknown precision .*'bf16'.*valid names are auto, float32, bfloat16"):
        SAM(precision="bf16")
    with pytest.raises(UserError, match="does not exist"):
        SAM(checkpoint=str(tmp_path / "nothing.pth"))


@pytest.mark.usefixtures("no_network")
def test_tells_an_offline_user_what_to_download() -> None:
    with pytest.raises(UserError, match=r"sam_vit_b_01ec64\.pth from https://.*model\.teacher\.checkpoint") as e:
        SAM()
    assert "\n" not in str(e.value)


def test_refuses_pickled_code(tmp_path: Path) -> None:
    torch.save({"image_encoder.pos_embed": torch.zeros(1), "hook": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="pickled Python objects"):
        SAM(checkpoint=str(tmp_path / "evil.pth"))
