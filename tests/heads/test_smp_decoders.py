"""UPerNet and FPN behind a student against the models of segmentation_models_pytorch (SMP), which hold an encoder."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.fpn import decoder as smp_fpn
from torch import Tensor, nn
from torch.nn import functional as F

import heads
from distill.errors import UserError
from distill.weights import write_weights
from heads import FPNDecoder, UPerNet
from students import TimmStudent

CLASSES = ["water", "grass", "road"]
# Strides 2 to 32 of a residual net and of one with depthwise convolutions, and 4 to 32.
ENCODERS = ["resnet10t", "efficientnet_b0", "convnext_atto"]
MODELS = {"UPerNet": (smp.UPerNet, {"decoder_channels": 32}, {"channels": 32})}
MODELS["FPNDecoder"] = (
    smp.FPN,
    {"decoder_pyramid_channels": 48, "decoder_segmentation_channels": 32},
    {"channels": 48, "segmentation_channels": 32},
)
ONE_STRIDE = ([8, 16, 24, 32], [8, 8, 8, 8])
PYRAMID = ([8, 16, 24, 32], [4, 8, 16, 32])


def both(name: str, encoder: str, **arguments: Any) -> tuple[nn.Module, nn.Sequential]:
    """SMP's model, and a student with our head that carry its weights; every norm has seen other data."""
    build, theirs, ours = MODELS[name]
    torch.manual_seed(0)
    model = build(f"tu-{encoder}", encoder_weights=None, classes=len(CLASSES), **theirs, **arguments)
    model.requires_divisible_input_shape = False
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    student = TimmStudent(encoder)
    head = getattr(heads, name)(student.feature_info, CLASSES, **ours)
    state = model.state_dict()
    student.load_state_dict({key.removeprefix("encoder."): state.pop(key) for key in list(state) if "encoder." in key})
    head.load_state_dict(state)
    return model, nn.Sequential(student, head)


def features(channels: list[int], strides: list[int], height: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, c, -(-height // s), -(-width // s), generator=generator)
        for c, s in zip(channels, strides, strict=True)
    ]


def run(model: Callable[..., Tensor], inputs: Any, variables: list[Tensor]) -> list[Tensor]:
    """Logits, and the gradients of a weighted sum of them."""
    torch.manual_seed(2)  # of dropout
    logits = model(inputs)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    return [logits, *torch.autograd.grad((weight * logits).mean(), variables)]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", MODELS)
def test_is_smps_model(name: str, encoder: str, training: bool) -> None:
    theirs, ours = (model.train(training) for model in both(name, encoder))
    images = torch.randn(2, 3, 64, 96)
    scale = 4  # SMP's model resizes its logits itself
    resized = nn.Sequential(ours, nn.UpsamplingBilinear2d(scale_factor=scale))
    # The order of both lists is that of construction, encoder first.
    results = (run(model, images, list(model.parameters())) for model in (resized, theirs))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert ours[1].stride == scale
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(50, 37), (33, 17), (1, 70)])
def test_upernet_of_any_size_is_smps(size: tuple[int, int]) -> None:
    """SMP refuses such sides in its models alone; its decoder takes them."""
    theirs, ours = (model.eval() for model in both("UPerNet", "resnet10t", upsampling=1))
    images = torch.randn(2, 3, *size)
    results = (run(model, images, list(model.parameters())) for model in (ours, theirs))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("size", [(64, 96), (50, 37), (33, 17), (1, 1)])
@pytest.mark.parametrize("maps_of", [PYRAMID, ONE_STRIDE], ids=["pyramid", "one stride"])
def test_fpn_of_any_size_is_smps_with_other_resizing(
    maps: Callable, monkeypatch: pytest.MonkeyPatch, maps_of: Any, size: tuple[int, int], training: bool
) -> None:
    """The reference is SMP's own forward, in which every doubling is replaced by resizing to the grid that follows."""
    torch.manual_seed(0)
    head = FPNDecoder(maps(*maps_of), CLASSES, channels=48, segmentation_channels=32).train(training)
    inputs = [x.requires_grad_() for x in features(*maps_of, *size)]
    c2, c3, c4, _ = (x.shape[-2:] for x in inputs)

    def as_smp(inputs: list[Tensor]) -> Tensor:
        order = iter([c4, c3, c2, c4, c3, c2, c3, c2, c2])  # down the pyramid, then up its branches

        def resize(x: Tensor, scale_factor: float, **arguments: Any) -> Tensor:
            assert scale_factor == 2
            return F.interpolate(x, next(order), **arguments)

        monkeypatch.setattr(smp_fpn, "F", SimpleNamespace(interpolate=resize))
        logits: Tensor = head.segmentation_head(head.decoder(inputs))
        assert next(order, None) is None
        return logits

    variables = [*inputs, *head.parameters()]
    for one, other in zip(run(head, inputs, variables), run(as_smp, inputs, variables), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("strides", "upernet", "fpn"),
    [
        ([2, 4, 8, 16, 32], [1, 2, 3, 4], [1, 2, 3, 4]),
        ([4, 8, 16, 32], [0, 1, 2, 3], [0, 1, 2, 3]),
        ([8, 16, 32], [0, 1, 2], [0, 0, 1, 2]),
        ([8], [0], [0, 0, 0, 0]),
        ([16] * 3, [0, 1, 2], [0, 0, 1, 2]),
        ([16] * 5, [0, 1, 2, 4], [0, 1, 2, 4]),
        ([16] * 12, [2, 5, 8, 11], [2, 5, 8, 11]),
    ],
)
def test_maps_that_are_read(maps: Callable, strides: list[int], upernet: list[int], fpn: list[int]) -> None:
    channels = list(range(8, 8 + len(strides)))
    for head, levels in (
        (UPerNet(maps(channels, strides), CLASSES, channels=8), upernet),
        (FPNDecoder(maps(channels, strides), CLASSES, channels=8, segmentation_channels=32), fpn),
    ):
        inputs = [x.requires_grad_() for x in features(channels, strides, 40, 50)]
        logits = head.eval()(inputs)
        assert logits.shape[-2:] == inputs[levels[0]].shape[-2:]
        assert head.stride == strides[levels[0]]
        logits.square().sum().backward()
        assert [index for index, x in enumerate(inputs) if x.grad is not None] == sorted(set(levels))
        assert head.levels == levels


@pytest.mark.parametrize("head", [UPerNet, FPNDecoder])
def test_maps_are_left_as_they_were(maps: Callable, head: type[nn.Module]) -> None:
    inputs = features(*PYRAMID, 64, 64)
    before = [x.clone() for x in inputs]
    head(maps(*PYRAMID), CLASSES)(inputs)
    assert all(torch.equal(x, old) for x, old in zip(inputs, before, strict=True))


def test_initial_weights_are_smps(maps: Callable) -> None:
    for head, decoder, channels in (
        (UPerNet, smp.decoders.upernet.decoder.UPerNetDecoder, [0, 0, *PYRAMID[0]]),
        (FPNDecoder, smp_fpn.FPNDecoder, PYRAMID[0]),
    ):
        torch.manual_seed(4)
        ours = head(maps(*PYRAMID), CLASSES)
        torch.manual_seed(4)
        theirs = SimpleNamespace(decoder=decoder(channels), classification_head=None)
        width = 256 if head is UPerNet else 128
        theirs.segmentation_head = smp.base.SegmentationHead(width, len(CLASSES), kernel_size=1)
        smp.base.SegmentationModel.initialize(theirs)
        for part in ("decoder", "segmentation_head"):
            state = getattr(theirs, part).state_dict()
            assert all(torch.equal(tensor, state[key]) for key, tensor in getattr(ours, part).state_dict().items())


def test_dropout_is_behind_the_sum(maps: Callable) -> None:
    head = FPNDecoder(maps(*PYRAMID), CLASSES, segmentation_channels=32, dropout=1.0)
    bias = head.segmentation_head[0].bias
    assert torch.equal(head(features(*PYRAMID, 32, 32)), bias[None, :, None, None].expand(2, 3, 8, 8))


@pytest.mark.parametrize("head", [UPerNet, FPNDecoder])
def test_checkpoint(maps: Callable, tmp_path: Any, head: type[nn.Module]) -> None:
    info, inputs, path = maps(*PYRAMID), features(*PYRAMID, 64, 64), str(tmp_path / "head.safetensors")
    trained = head(info, CLASSES)
    trained(inputs)  # moves what batch norms remember
    write_weights(trained, tmp_path / "head.safetensors", {})
    assert torch.equal(head(info, CLASSES, checkpoint=path).eval()(inputs), trained.eval()(inputs))
    with pytest.raises(UserError, match=f"does not fit {head.__name__}"):
        head(info, [*CLASSES, "roof"], checkpoint=path)


@pytest.mark.parametrize("head", [UPerNet, FPNDecoder])
def test_without_the_package(maps: Callable, monkeypatch: pytest.MonkeyPatch, head: type[nn.Module]) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UserError, match=r"pip install 'distill-rs\[smp\]'") as caught:
        head(maps(*PYRAMID), CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", [UPerNet, FPNDecoder])
def test_bad_arguments(maps: Callable, head: type[nn.Module]) -> None:
    with pytest.raises(UserError, match="at least one class"):
        head(maps(*PYRAMID), [])
    with pytest.raises(UserError, match=r"from fine to coarse \(got strides \[8, 4\]\)"):
        head(maps([8, 8], [8, 4]), CLASSES)
    with pytest.raises(UserError, match="multiples of 32"):
        FPNDecoder(maps(*PYRAMID), CLASSES, segmentation_channels=48)


def test_one_image_cannot_train_batch_norms(maps: Callable) -> None:
    one = [x[:1] for x in features(*PYRAMID, 64, 64)]
    head = UPerNet(maps(*PYRAMID), CLASSES)
    with pytest.raises(UserError, match=r"2 images or more a training step \(got 1\).* heads.FPNDecoder"):
        head(one)
    assert head.eval()(one).shape == (1, 3, 16, 16)
    assert FPNDecoder(maps(*PYRAMID), CLASSES)(one).shape == (1, 3, 16, 16)
