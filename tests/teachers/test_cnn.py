"""The oracle is the whole timm model; features_only, which the teacher is built on, is none."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.errors import UserError
from distill.weights import write_weights
from students import TimmStudent
from teachers import CNN

SMALL_SWIN = {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2]}
# A level of stride 2 first; flattened names; taps inside of the model; dense blocks; channels last; attention.
FAMILIES: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_convnext": {},
    "test_efficientnet": {},
    "densenet121": {"growth_rate": 4, "block_config": (2, 2, 2, 2)},
    "swin_tiny_patch4_window7_224": SMALL_SWIN,
    "efficientvit_b0": {},
}


def whole(name: str, **options: Any) -> Any:
    """A timm model with its head, whose every parameter and statistic matters."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **options)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model.eval()


def normalised(images: Tensor, name: str) -> Tensor:
    config = timm.models.get_pretrained_cfg(name)
    return (images - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(64, 96), (50, 71), (7, 33)], ids=str)
def test_stages_are_timms(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    swin = {"strict_img_size": False} if "swin" in name else {}
    reference = whole(name, **FAMILIES[name], **swin)
    if not hasattr(reference, "forward_intermediates"):
        pytest.skip("this version of timm has no oracle for the family")
    torch.save(reference.state_dict(), tmp_path / "cnn.pth")
    count = len(reference.feature_info)
    teacher = CNN(name, str(tmp_path / "cnn.pth"), stages=[count - 1, 1], options=FAMILIES[name])
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    padded = F.pad(normalised(images, name), (0, -size[1] % 32, 0, -size[0] % 32))
    with torch.no_grad():
        maps = reference.forward_intermediates(padded, intermediates_only=True)

    features = teacher(images)
    assert list(features) == list(teacher.channels) == ["stage_1", f"stage_{count - 1}"]
    assert teacher.reduction[f"stage_{count - 1}"] == 32
    for stage, feature in features.items():
        rows, columns = (-(-side // teacher.reduction[stage]) for side in size)
        expected = maps[int(stage[6:])][..., :rows, :columns]
        assert feature.shape == (2, teacher.channels[stage], rows, columns)
        torch.testing.assert_close(feature, expected, atol=1e-4, rtol=1e-4)
    assert features["stage_1"].std() > 1e-3


def test_gives_the_last_stage_unless_told(tmp_path: Path) -> None:
    torch.save(whole("test_resnet").state_dict(), tmp_path / "cnn.pth")
    last = CNN("test_resnet", str(tmp_path / "cnn.pth"))
    every = CNN("test_resnet", str(tmp_path / "cnn.pth"), stages=[0, 1, 2, 3, 4])
    assert last.channels == {"stage_4": 96}
    assert list(every.reduction.values()) == [2, 4, 8, 16, 32]
    images = torch.rand(1, 3, 45, 64)
    assert torch.equal(last(images)["stage_4"], every(images)["stage_4"])
    assert last.digest == every.digest


@pytest.mark.parametrize(
    ("name", "taps"),
    [("test_convnext", [0, 2]), ("test_convnext", None), ("test_efficientnet", [1, -1]), ("hiera_tiny_224", None)],
)
def test_reads_a_model_that_was_trained_as_a_student(name: str, taps: list[int] | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"embed_dim": 16, "stages": [1, 1, 1, 1]} if name.startswith("hiera") else {}
    student = TimmStudent(name, taps, options=options).eval()
    path = tmp_path / "student.safetensors"
    write_weights(student, path, {"class": "students.TimmStudent", "init_args": student.init_args})
    teacher = CNN(name, str(path))
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        last = student(normalised(images, name))[-1]
    (feature,) = teacher(images).values()
    torch.testing.assert_close(feature, last, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"has no stage 7; .*teacher\.stages go from 0 to"):
        CNN(name, str(path), stages=[7])


def test_reads_the_official_convnext_layout(tmp_path: Path) -> None:
    reference = whole("test_convnext")
    torch.save(reference.state_dict(), tmp_path / "timm.pth")
    official = {}
    for key, value in reference.state_dict().items():
        key = key.replace("head.norm.", "norm.").replace("head.fc.", "head.").replace("stem.", "downsample_layers.0.")
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        if ".downsample." in key:
            _, stage, _, rest = key.split(".", 3)
            key = f"downsample_layers.{stage}.{rest}"
        official[key.replace(".blocks.", ".")] = value.flatten(1) if "pwconv" in key and value.ndim > 1 else value
    assert official.keys() != reference.state_dict().keys()
    torch.save({"model": official}, tmp_path / "official.pth")
    digests = {CNN("test_convnext", str(tmp_path / f"{file}.pth")).digest for file in ("timm", "official")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet5O", None, r"unknown timm model 'resnet5O'.*did you mean resnet50"),
        ("resnet50.mine", None, r"Invalid pretrained tag \(mine\)"),
        ("resnet18", {"deepness": 3}, r"options \{'deepness': 3\}.*unexpected keyword argument 'deepness'"),
        ("resnet18", {"out_indices": [9]}, r"options \{'out_indices': \[9\]\} \("),
        ("resnet18", {"in_chans": 1}, r"model\.teacher\.options has in_chans 1; leave it out: a teacher takes RGB"),
        ("vit_tiny_patch16_224", {"depth": 3}, r"is no hierarchy, its maps have strides \[16, 16, 16\].*teachers\.ViT"),
        ("resnet50t", None, r"timm publishes no weights for 'resnet50t'"),
    ],
)
def test_refuses_models_it_cannot_be(name: str, options: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        CNN(name, options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["maxvit_pico_rw_256", "hiera_tiny_224", "halonet26t"])
def test_a_model_of_one_size_says_which(name: str) -> None:
    teacher = CNN(name, pretrained=False)
    side = int(teacher.encoder.pretrained_cfg["input_size"][-1])
    with pytest.raises(
        UserError, match=rf"teacher {name} does not take images of 160 x 96 px .* to {side}, the size"
    ) as caught:
        teacher(torch.rand(1, 3, 96, 150))
    assert "\n" not in str(caught.value)
    (last,) = teacher(torch.rand(1, 3, side, side)).values()
    assert last.shape[2:] == (side // 32, side // 32)


def test_refuses_files_of_other_models(tmp_path: Path) -> None:
    torch.save(whole("test_resnet").state_dict(), tmp_path / "cnn.pth")
    with pytest.raises(UserError, match="does not fit"):
        CNN("test_convnext", str(tmp_path / "cnn.pth"))
    torch.save({**whole("test_resnet").state_dict(), "projector.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"names are unknown \(first: projector\.weight\)"):
        CNN("test_resnet", str(tmp_path / "more.pth"))
    with pytest.raises(UserError, match="does not exist"):
        CNN("test_resnet", str(tmp_path / "nothing.pth"))
    student = TimmStudent("test_resnet")
    path = tmp_path / "student.safetensors"
    write_weights(student, path, {"class": "students.TimmStudent", "init_args": student.init_args})
    with pytest.raises(UserError, match=r"holds students\.TimmStudent with .*not the timm model 'test_convnext'"):
        CNN("test_convnext", str(path))


@pytest.mark.usefixtures("no_network")
def test_tells_an_offline_user_what_to_download() -> None:
    with pytest.raises(UserError, match=r"https://huggingface\.co/timm/test_resnet\.r160_in1k .*teacher\.checkpoint"):
        CNN("test_resnet")
