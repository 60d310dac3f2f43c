"""RSPrompter-anchor: what its mask branch trains, compares and predicts. What it shares is in test_two_stage.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from distill.errors import UserError
from heads import RSPrompter
from heads.mmdet.mask_samplers import RegionMasks, at_pixels, at_points, on_grid
from heads.parts.neck import Neck
from heads.parts.sam_mask_decoder import MaskDecoder

SMALL: dict[str, Any] = {"neck_channels": 16, "fc_channels": 32, "roi_samples": 16, "proposals": 32}
SMALL |= {"decoder_channels": 32, "mask_points": 128}
WAYS = ["points", "grid", "pixels"]


@pytest.fixture
def boxes(target):
    return [target([[4, 4, 30, 28], [34, 20, 60, 60]], [0, 1]), target([[10, 30, 24, 60]], [1])]


def built(student, **arguments):
    torch.manual_seed(0)
    return RSPrompter(student.feature_info, ["ship", "plane"], **SMALL | arguments)


def mask_losses(head, student, targets):
    torch.manual_seed(3)
    losses = head.loss(student(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))), targets)
    return losses["loss_mask"] + losses["loss_mask_dice"]


# The loss


@pytest.fixture
def circles():
    """Masks (3, 96, 80) of discs, two in the first image and one in the second, in the order of the regions."""
    rows, columns = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    discs = [
        ((rows - y) ** 2 + (columns - x) ** 2).sqrt() < r for y, x, r in ((30, 30, 20), (60, 50, 12), (48, 40, 30))
    ]
    masks = torch.stack(discs).to(torch.uint8)
    truth = RegionMasks([masks[:2], masks[2:]], [torch.tensor([1, 0]), torch.tensor([0])])
    return masks[[1, 0, 2]], truth


SETTINGS = SimpleNamespace(num_points=4000, oversample_ratio=3.0, importance_sample_ratio=0.0)


def test_every_way_reads_the_masks_of_the_matched_instances(circles):
    """Exact at pixels; as fractions of cells on the grid; at points, the pixel each lies in."""
    masks, truth = circles
    logits = torch.zeros(3, 1, 24, 20)
    assert torch.equal(at_pixels(logits, truth, SETTINGS)[1], masks.flatten(1).float())
    cells = F.avg_pool2d(masks[:, None].float(), 4).flatten(1)
    torch.testing.assert_close(on_grid(logits, truth, SETTINGS)[1], cells)
    centres = torch.stack(
        torch.meshgrid((torch.arange(80) + 0.5) / 80, (torch.arange(96) + 0.5) / 96, indexing="xy"), -1
    )
    assert torch.equal(truth.at(centres.reshape(1, -1, 2).expand(3, -1, -1)), masks.flatten(1).float())
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).expand(3, -1, -1)
    assert torch.equal(truth.at(corners), masks[:, [0, -1], [0, -1]].float())


def test_logits_are_read_where_the_truth_is(circles):
    """Logits made from the masks themselves agree with the truth nearly everywhere, whichever way is taken."""
    masks, truth = circles
    logits = 40 * F.avg_pool2d(masks[:, None].float(), 4) - 20
    torch.manual_seed(0)
    for way in (at_points, on_grid, at_pixels):
        read, values = way(logits, truth, SETTINGS)
        assert ((read > 0) == (values > 0.5)).float().mean() > 0.98, way.__name__


def test_losses_agree_and_so_do_their_gradients(circles):
    """Uniform points and cells estimate what every pixel says."""
    masks, truth = circles
    torch.manual_seed(0)
    start = F.avg_pool2d(masks[:, None].float(), 4) + torch.randn(3, 1, 24, 20) / 2
    values, gradients = [], []
    for way in (at_pixels, at_points, on_grid):
        logits = start.clone().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(*way(logits, truth, SETTINGS))
        loss.backward()
        values.append(loss.item())
        gradients.append(logits.grad.flatten())
    assert values[1:] == pytest.approx([values[0]] * 2, rel=0.1)
    for gradient in gradients[1:]:
        assert F.cosine_similarity(gradient, gradients[0], dim=0) > 0.85


def test_points_gather_where_logits_are_uncertain(circles):
    _, truth = circles
    logits = torch.full((3, 1, 24, 20), 9.0)
    logits[..., 10:] = -9.0  # uncertain along one column
    torch.manual_seed(0)
    share = {}
    for importance in (0.0, 1.0):
        settings = SimpleNamespace(num_points=100, oversample_ratio=3.0, importance_sample_ratio=importance)
        share[importance] = (at_points(logits, truth, settings)[0].abs() < 8.9).float().mean().item()
    assert share[1.0] > 2 * share[0.0]


@pytest.mark.parametrize("way", WAYS)
def test_images_whose_side_is_no_multiple_of_the_stride_train(way, student, target):
    """60 x 52 px on a grid of 8 x 7 cells of 8 px: masks end before the grid does."""
    head = built(student, mask_loss=way)
    odd = target([[4, 4, 30, 28]], [0])
    odd.masks, odd.size = odd.masks[:, :60, :52], (60, 52)
    losses = head.loss(student(torch.randn(1, 3, 60, 52)), [odd])
    assert losses["loss_mask"] > 0
    sum(losses.values()).backward()
    head.eval()
    (found,) = head.predict(student(torch.randn(1, 3, 60, 52)), [odd])
    assert found.masks.shape[1:] == odd.original_size


@pytest.mark.parametrize("way", WAYS)
def test_each_way_trains_the_branch(way, student, boxes):
    head = built(student, mask_loss=way)
    mask_losses(head, student, boxes).backward()
    assert head.roi_head.mask_head.embed[0].weight.grad.abs().sum() > 0


# What trains


@pytest.mark.parametrize("sine", [True, False])
def test_exactly_what_a_single_mask_never_reaches_is_frozen(sine, student, boxes):
    head = built(student, prompt_sine=sine)
    frozen = {name for name, parameter in head.named_parameters() if not parameter.requires_grad}
    where = "roi_head.mask_head.decoder."
    others = tuple(f"{where}output_hypernetworks_mlps.{index}." for index in (1, 2, 3))
    assert frozen == {n for n, _ in head.named_parameters() if n.startswith((*others, f"{where}iou_prediction_head."))}
    mask_losses(head, student, boxes).backward()
    for name, parameter in head.roi_head.mask_head.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_masks_train_the_students_last_map(student, boxes):
    """Through the decoder alone: regions are cut off."""
    head = built(student)
    features = [feature.detach() for feature in student(torch.randn(2, 3, 64, 64))]
    last = features[-1].requires_grad_()
    levels = [*(level.detach() for level in head.neck(features)[:-1]), last]
    regions = torch.randn(2, 16, 14, 14)
    head.roi_head.mask_head(regions, levels[-1], torch.tensor([0, 1])).square().mean().backward()
    assert (last.grad.abs().sum((1, 2, 3)) > 0).all()


def test_computing_the_decoder_twice_gives_the_same_gradients(student, boxes):
    gradients = {}
    for recompute in (False, True):
        head = built(student, decoder_recompute=recompute, overrides={"roi_head.mask_head.decoder_chunk": 3})
        mask_losses(head, student, boxes).backward()
        gradients[recompute] = {n: p.grad for n, p in head.roi_head.mask_head.named_parameters() if p.requires_grad}
    for name, gradient in gradients[False].items():
        torch.testing.assert_close(gradients[True][name], gradient, atol=1e-6, rtol=1e-4)


def test_chunks_change_nothing_and_regions_keep_their_images(student):
    """Five regions of three images, none of the second, in one chunk or in chunks of two."""
    regions, maps = torch.randn(5, 16, 14, 14), torch.randn(3, 32, 8, 8)
    owners = torch.tensor([0.0, 0, 0, 2, 2])
    results = []
    for chunk in (32, 2):
        mask_head = built(student, overrides={"roi_head.mask_head.decoder_chunk": chunk}).roi_head.mask_head
        results.append(mask_head(regions, maps, owners))
        alone = mask_head(regions[3:], maps[2:], torch.zeros(2))
        torch.testing.assert_close(results[-1][3:], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


def test_position_reaches_the_regions(student):
    """Two regions of equal content and different place differ in their features."""
    head = built(student)
    x = [torch.ones(1, 16, 64 // s, 64 // s) for s in head.neck.strides] + [torch.zeros(1, 32, 8, 8)]
    rois = torch.tensor([[0.0, 4, 4, 20, 20], [0, 40, 36, 56, 52]])
    placed = head.roi_head.placed(x)
    levels = placed[: head.roi_head.mask_roi_extractor.num_inputs]
    one, other = head.roi_head.mask_roi_extractor(levels, rois)
    assert (one - other).abs().max() > 0.5
    assert torch.equal(placed[-1], x[-1])


# The image map


@pytest.mark.parametrize(
    ("channels", "strides", "expected"),
    [
        ([256, 256], [16, 16], (256, 16, None)),  # RS4D: the distilled map itself
        ([192], [8], (192, 8, None)),
        ([64, 128, 256, 512], [4, 8, 16, 32], (32, 16, 2)),  # the last is too coarse: a level of the pyramid
        ([16, 32, 64], [4, 8, 16], (64, 16, None)),
        ([512, 512], [32, 32], (32, 16, 1)),
    ],
)
def test_the_image_map_is_the_last_or_that_of_stride_16(channels, strides, expected, maps):
    neck = Neck(maps(channels, strides), channels=32, image_map=True)
    features = [torch.randn(1, c, 128 // s, 128 // s) for c, s in zip(channels, strides, strict=True)]
    *levels, image = neck(features)
    image_channels, stride, level = expected
    assert (neck.image_channels, neck.image_stride) == (image_channels, stride)
    assert image.shape == (1, image_channels, 128 // stride, 128 // stride)
    assert image is (features[-1] if level is None else levels[level])
    assert len(levels) == len(neck.strides)


def test_sams_channels_need_no_adapter(student, maps):
    assert isinstance(built(student).roi_head.mask_head.adapt, torch.nn.Identity)
    wider = RSPrompter(maps([48], [8]), ["ship"], **SMALL)
    assert wider.roi_head.mask_head.adapt.weight.shape == (32, 48, 1, 1)


# Weights and settings


@pytest.fixture
def sam_file(tmp_path: Path) -> Path:
    """A decoder of 32 channels in the official layout."""
    torch.manual_seed(7)
    decoder = MaskDecoder(32)
    state = {f"mask_decoder.{name}": value for name, value in decoder.state_dict().items()}
    state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = state.pop("mask_decoder.frequencies")
    state["prompt_encoder.no_mask_embed.weight"] = state.pop("mask_decoder.no_mask_embed.weight")
    torch.save(state, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def test_a_checkpoint_fills_the_decoder_and_survives_init_weights(student, sam_file):
    """MMEngine's runner calls `init_weights` on every part of a detector when training starts."""
    head = built(student, decoder_checkpoint=str(sam_file))
    expected = torch.load(sam_file)["mask_decoder.mask_tokens.weight"]
    head.roi_head.init_weights()
    assert torch.equal(head.roi_head.mask_head.decoder.mask_tokens.weight, expected)
    config = head.mmdet_config()["roi_head"]["mask_head"]
    assert config["decoder_checkpoint"] == str(sam_file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder_checkpoint": "nowhere.pth"}, "'nowhere.pth' does not exist"),
        ({"decoder_checkpoint": "SAM", "decoder_channels": 64}, "does not fit MaskDecoder"),
        ({"mask_loss": "pointz"}, "did you mean points"),
        ({"decoder_channels": 20}, "^model.head.decoder_channels is 20; it must be a multiple of 16"),
        ({"decoder_channels": 0}, "^model.head.decoder_channels is 0; it must be 1 or more"),
        ({"prompts": 0}, "^model.head.prompts is 0; it must be 1 or more"),
        ({"mask_points": 1}, "^model.head.mask_points is 1; it must be 2 or more"),
        ({"overrides": {"roi_head.mask_head.decoder_chunk": 0}}, "mask_head.decoder_chunk is 0; it must be 1 or more"),
        ({"overrides": {"roi_head.mask_head.promts": 3}}, "did you mean prompts"),
    ],
)
def test_unfit_settings_are_one_line(arguments, message, student, sam_file):
    given = {key: str(sam_file) if value == "SAM" else value for key, value in arguments.items()}
    with pytest.raises(UserError, match=message) as raised:
        built(student, **given)
    assert "\n" not in str(raised.value)


def test_a_map_that_the_upscaling_does_not_divide_is_one_line(maps):
    with pytest.raises(UserError, match=r"a multiple of 4 pixels \(got 6\); let the student emit another map"):
        RSPrompter(maps([8, 16], [2, 6]), ["ship"], **SMALL)
    with pytest.raises(UserError, match="neck_channels is 18; it must be a multiple of 4"):
        RSPrompter(maps([8, 16], [4, 8]), ["ship"], **SMALL | {"neck_channels": 18})


def test_keys_and_overrides_reach_the_parts_and_overrides_win(student):
    head = built(
        student, prompts=3, mask_points=50, overrides={"roi_head.mask_head": {"loss_dice": {"loss_weight": 0}}}
    )
    mask_head = head.roi_head.mask_head
    assert mask_head.embed(torch.randn(2, 16, 14, 14)).shape == (2, 3, 32)
    assert head.roi_head.train_cfg.num_points == 50
    assert mask_head.loss_dice.loss_weight == 0
    assert built(student, overrides={"train_cfg.rcnn.num_points": 7}).roi_head.train_cfg.num_points == 7
    assert head.rpn_head.prior_generator.scales.tolist() == [4, 8]


# Predictions


def test_masks_are_resized_from_the_real_part_of_the_input(student):
    """48 x 64 real px of 64 x 64, file of 96 x 192: a mask drawn in the logits lands where it was drawn, resized."""
    mask_head = built(student).roi_head.mask_head
    logits = torch.full((3, 1, 32, 32), -9.0)  # two px per cell
    logits[0, 0, 4:12, 8:16] = 9  # px 8-24 x 16-32: rows 16-48 and columns 48-96 of the file
    logits[1, 0, 24:] = 9  # padding
    sizes = {"img_shape": (48, 64), "ori_shape": (96, 192), "scale_factor": (64 / 192, 48 / 96)}
    results = SimpleNamespace(bboxes=torch.tensor([[16.0, 8, 32, 24]] * 3))
    threshold = SimpleNamespace(mask_thr_binary=0.5)
    (found,) = mask_head.predict_by_feat((logits,), [results], [sizes], threshold, rescale=True)
    assert found.masks.shape == (3, 96, 192)
    expected = torch.zeros(96, 192, dtype=torch.bool)
    expected[16:48, 48:96] = True
    assert (found.masks[0] & expected).sum() / (found.masks[0] | expected).sum() > 0.9
    assert found.masks[1].float().mean() < 0.03
    assert not found.masks[2].any()
    assert found.bboxes[0].tolist() == [48, 16, 96, 48]


def test_masks_of_a_grid_that_stops_short_of_the_input_are_not_stretched(student):
    mask_head = built(student).roi_head.mask_head
    logits = torch.full((1, 1, 32, 32), -9.0)  # two px per cell: 64 of 72 px
    logits[0, 0, 4:12, 20:28] = 9
    mask = mask_head._binary(logits, (72, 72), (72, 72), 0.5).dense()[0]
    assert mask[8:24, 40:56].all()
    assert mask.sum() < 18 * 18


def test_prediction_in_small_parts_is_the_same(student, monkeypatch):
    mask_head = built(student).roi_head.mask_head
    logits = torch.randn(5, 1, 12, 9)
    whole = mask_head._binary(logits, (20, 18), (31, 17), 0.5).dense()
    monkeypatch.setattr("heads.mmdet.registered.prompt_mask_head._RESIZED", 1)
    assert torch.equal(mask_head._binary(logits, (20, 18), (31, 17), 0.5).dense(), whole)


def test_an_image_without_detections_beside_one_with(student, target):
    head = built(student, score_threshold=0.0, max_detections=4).eval()
    with torch.no_grad():
        levels = head._levels(student(torch.randn(2, 3, 64, 64)))
        from mmengine.structures import InstanceData

        none = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))
        one = InstanceData(bboxes=torch.tensor([[4.0, 4, 30, 28]]), scores=torch.ones(1), labels=torch.zeros(1).long())
        sizes = {"img_shape": (64, 64), "ori_shape": (32, 32), "scale_factor": (2.0, 2.0)}
        found = head.roi_head.predict_mask(levels, [sizes] * 2, [none, one], rescale=True)
    assert [len(result.masks) for result in found] == [0, 1]
    assert found[0].masks.shape == (0, 32, 32)
