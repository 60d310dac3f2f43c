import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d

from distill.errors import UserError
from heads.parts.aggregator import FeatureAggregator
from heads.parts.neck import Neck
from heads.parts.pyramids import SimpleFPN


@pytest.mark.parametrize("norm", ["layer", "group", "batch", "none"])
def test_columnar_student_gets_five_levels(maps, norm):
    neck = Neck(maps([24, 40, 32], [16, 16, 16]), channels=32, norm=norm)
    levels = neck([torch.randn(2, c, 8, 6) for c in (24, 40, 32)])
    assert neck.strides == [4, 8, 16, 32, 64]
    assert [tuple(level.shape) for level in levels] == [
        (2, 32, 32, 24),
        (2, 32, 16, 12),
        (2, 32, 8, 6),
        (2, 32, 4, 3),
        (2, 32, 2, 2),
    ]


def test_without_its_finest_level_a_columnar_neck_gives_the_others(maps):
    whole, rest = SimpleFPN(16), SimpleFPN(16, skip_finest=True)
    rest.resample, rest.project = whole.resample[1:], whole.project[1:]
    feature = torch.randn(1, 16, 12, 9)
    *found, last = rest(feature)
    assert all(torch.equal(one, other) for one, other in zip(found, whole(feature)[1:], strict=True))
    assert torch.equal(last, found[-1][..., ::2, ::2])
    neck = Neck(maps([8, 8], [16, 16]), 16, skip_finest=True)
    assert neck.strides == [8, 16, 32, 64, 128]
    assert [level.shape[-2:] for level in neck([torch.randn(1, 8, 12, 9)] * 2)] == [
        (24, 18),
        (12, 9),
        (6, 5),
        (3, 3),
        (2, 2),
    ]


def test_without_its_finest_level_a_hierarchical_neck_leaves_the_first_map_unread(maps):
    neck = Neck(maps([4, 8, 12], [4, 8, 16]), 16, skip_finest=True)
    assert neck.strides == [8, 16, 32, 64, 128]
    features = [torch.randn(1, channels, side, side) for channels, side in ((4, 32), (8, 16), (12, 8))]
    found = neck(features)
    assert [level.shape[-1] for level in found] == [16, 8, 4, 2, 1]
    other = neck([torch.randn(1, 4, 32, 32), *features[1:]])
    assert all(torch.equal(one, two) for one, two in zip(found, other, strict=True))


@pytest.mark.parametrize("grid", [(1, 1), (7, 5), (3, 8)])
def test_odd_grids_round_up(maps, grid):
    levels = Neck(maps([8], [8]), channels=16)([torch.randn(1, 8, *grid)])
    up = [tuple(-(-4 * side // 2**i) for side in grid) for i in range(5)]
    assert [tuple(level.shape[-2:]) for level in levels] == up


def test_aggregator_follows_its_recurrence():
    torch.manual_seed(0)
    aggregator = FeatureAggregator([8, 8, 8], channels=16, hidden_channels=4)
    features = [torch.randn(1, 8, 5, 7) for _ in range(3)]
    f = [reduce(x) for reduce, x in zip(aggregator.reduce, features, strict=True)]
    c = aggregator.recur
    x0 = f[0] + c[0](f[0])
    x1 = x0 + f[1] + c[1](x0 + f[1])
    x2 = x1 + f[2] + c[2](x1 + f[2])
    torch.testing.assert_close(aggregator(features), aggregator.fuse(x2))


def test_default_size_is_that_of_rs4d():
    """12 taps of 256 channels: about 1.5 M parameters in the aggregator and 2.84 M in the simple FPN."""
    aggregator = FeatureAggregator([256] * 12)
    assert sum(p.numel() for p in aggregator.parameters()) == pytest.approx(1.5e6, rel=0.05)
    assert sum(p.numel() for p in SimpleFPN().parameters()) == pytest.approx(2.84e6, rel=0.01)


def test_hierarchical_student_gets_a_top_down_fpn():
    student = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4), pretrained=False)
    neck = Neck(student.feature_info, channels=16)
    levels = neck(student(torch.randn(1, 3, 96, 64)))
    assert neck.strides == [4, 8, 16, 32, 64]
    assert [tuple(level.shape) for level in levels] == [
        (1, 16, 24, 16),
        (1, 16, 12, 8),
        (1, 16, 6, 4),
        (1, 16, 3, 2),
        (1, 16, 2, 1),
    ]


@pytest.mark.parametrize(
    ("channels", "reductions", "keywords", "message"),
    [
        ([8, 8], [8, 8], {"norm": "layr"}, "did you mean layer"),
        ([8, 8], [2, 2], {}, "multiple of 4 pixels"),
        ([8, 8, 8], [8, 8, 16], {}, "strides \\[8, 8, 16\\]"),
        ([8], [8], {"channels": 30}, "neck_channels is 30; it must be a multiple of 4"),
        ([8, 8], [4, 8], {"channels": 30}, "neck_channels is 30; it must be a multiple of 4"),
        ([8, 8], [4, 8], {"channels": 0}, "neck_channels is 0; it must be 1 or more"),
        ([8], [8], {"channels": -4}, "neck_channels is -4; it must be 1 or more"),
        ([8], [8], {"hidden_channels": 0}, "neck_hidden is 0; it must be 1 or more"),
        ([8, 8], [4, 8], {"norm": "layr"}, "did you mean layer"),
        ([8, 8], [4, 8], {"two_way": True}, "set neck_path_aggregation"),
        ([8], [8], {"two_way": True}, "tap more"),
    ],
)
def test_unfit_settings_are_named(maps, channels, reductions, keywords, message):
    with pytest.raises(UserError, match=message):
        Neck(maps(channels, reductions), **keywords)


@pytest.mark.parametrize("norm", ["layer", "group", "batch"])
def test_a_fresh_neck_shows_what_the_student_shows(maps: type, norm: str) -> None:
    """Most of each level's energy follows the maps' content, not a constant and not the pattern of the upsampling."""
    torch.manual_seed(0)
    neck = Neck(maps([48, 48, 48], [8, 8, 8]), channels=32, norm=norm)
    levels = neck([torch.randn(4, 48, 16, 16) for _ in range(3)])
    for level in levels[:3]:
        constant = level.mean((0, 2, 3)).square().mean()
        assert constant < 0.3 * level.square().mean()
    blocks = levels[0].unflatten(3, (-1, 4)).unflatten(2, (-1, 4))  # (B, C, h, 4, w, 4): the pixels of one cell
    inner = blocks[:, :, 1:-1, :, 1:-1]
    pattern = inner.mean((0, 2, 4)).var((1, 2)).mean()
    assert pattern < 0.1 * level.var((0, 2, 3)).mean()


def test_the_way_back_follows_its_recurrence():
    torch.manual_seed(0)
    aggregator = FeatureAggregator([8, 8, 8], channels=16, hidden_channels=4, two_way=True)
    one_way = FeatureAggregator([8, 8, 8], channels=16, hidden_channels=4)
    one_way.load_state_dict({k: v for k, v in aggregator.state_dict().items() if not k.startswith("recur_back")})
    one_way.fuse = torch.nn.Identity()
    features = [torch.randn(1, 8, 5, 7) for _ in range(3)]
    f = [reduce(x) for reduce, x in zip(aggregator.reduce, features, strict=True)]
    r = aggregator.recur_back
    x = one_way(features)
    x = x + r[2](x)
    x = x + r[1](f[1])
    x = x + r[1](x)
    x = x + r[0](f[0])
    torch.testing.assert_close(aggregator(features), aggregator.fuse(x))


def test_path_aggregation_passes_finer_levels_on():
    torch.manual_seed(0)
    plain, passing = SimpleFPN(16), SimpleFPN(16, path_aggregation=True)
    passing.load_state_dict(plain.state_dict())
    feature = torch.randn(1, 16, 7, 5)
    before, after = plain(feature), passing(feature)
    assert torch.equal(before[0], after[0])
    expected = before[0]
    for level in range(1, 4):
        halved = F.interpolate(expected, before[level].shape[2:], mode="bilinear")
        expected = passing.project[level][3](passing.project[level][2](before[level] + halved))
        torch.testing.assert_close(after[level], expected)
    torch.testing.assert_close(after[4], expected[..., ::2, ::2])


@pytest.mark.parametrize("norm", ["layer", "group", "batch", "none"])
@pytest.mark.parametrize("reductions", [[8, 8, 8], [4, 8, 16]], ids=["columnar", "hierarchical"])
@pytest.mark.parametrize("path_aggregation", [False, True])
def test_gradient_reaches_every_map_and_parameter(maps, norm, reductions, path_aggregation):
    torch.manual_seed(0)
    two_way = reductions[0] == reductions[-1] and path_aggregation
    neck = Neck(maps([8, 8, 8], reductions), 16, norm, two_way=two_way, path_aggregation=path_aggregation)
    features = [torch.randn(2, 8, -(-48 // r), -(-40 // r), requires_grad=True) for r in reductions]
    sum((level * torch.randn_like(level)).sum() for level in neck(features)).backward()
    for name, tensor in [*neck.named_parameters(), *((f"map {i}", f) for i, f in enumerate(features))]:
        assert torch.isfinite(tensor.grad).all(), name
        assert tensor.grad.abs().sum() > 0, name


def test_the_norm_of_a_top_down_fpn_is_the_chosen_one(maps):
    kinds = {"layer": LayerNorm2d, "group": torch.nn.GroupNorm, "batch": torch.nn.BatchNorm2d}
    for norm in ("layer", "group", "batch", "none"):
        modules = list(Neck(maps([8, 8], [4, 8]), 16, norm).modules())
        found = [name for name, kind in kinds.items() if any(isinstance(module, kind) for module in modules)]
        assert found == ([] if norm == "none" else [norm])
