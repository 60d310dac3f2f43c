"""Our detectors against the configurations that MMDetection ships; the differences are the documented ones."""

import math
from pathlib import Path

import pytest

from heads import CascadeMaskRCNN, MaskRCNN, RSPrompter


@pytest.fixture
def published():
    import mmdet
    from mmengine.config import Config

    def read(name):
        model = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/_base_/models" / name).model
        return {key: model[key].to_dict() for key in ("rpn_head", "roi_head", "train_cfg", "test_cfg")}

    return read


def differences(ours, theirs, where=""):
    """Paths at which two configurations disagree, once MMDetection's own defaults are filled in."""
    defaults = {"loss_weight": 1.0, "beta": 1.0, "target_means": [0.0, 0.0, 0.0, 0.0], "debug": False}
    defaults |= {"match_low_quality": True, "neg_pos_ub": -1, "min_bbox_size": 0, "finest_scale": 56}
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = set()
        for key in ours.keys() | theirs.keys():
            one, other = (config.get(key, defaults.get(key)) for config in (ours, theirs))
            found |= differences(one, other, f"{where}.{key}".lstrip("."))
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return set().union(
            *(differences(a, b, f"{where}.{i}") for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
        )
    if isinstance(ours, float) and isinstance(theirs, float):
        return set() if math.isclose(ours, theirs, rel_tol=0.02) else {where}
    return set() if ours == theirs else {where}


def sections(head_class, maps):
    config = head_class(maps([256], [16]), [str(label) for label in range(80)]).mmdet_config()
    return {key: config[key] for key in ("rpn_head", "roi_head", "train_cfg", "test_cfg")}


# Ignored crowds: a detector trains under them as background where the assigner has no `ignore_iof_thr` of 0 or more.
_CROWDS = "train_cfg.rpn.assigner.ignore_iof_thr"


def test_mask_rcnn_is_mmdetections_with_the_losses_of_rs4d(maps, published):
    found = differences(sections(MaskRCNN, maps), published("mask-rcnn_r50_fpn.py"))
    assert found == {
        _CROWDS,
        "train_cfg.rcnn.assigner.ignore_iof_thr",
        "rpn_head.loss_bbox.type",
        "roi_head.bbox_head.loss_bbox.type",
    }


def test_cascade_is_mmdetections_over_our_proposals(maps, published):
    found = differences(sections(CascadeMaskRCNN, maps), published("cascade-mask-rcnn_r50_fpn.py"))
    assert found == {
        _CROWDS,
        *(f"train_cfg.rcnn.{step}.assigner.ignore_iof_thr" for step in range(3)),
        "rpn_head.loss_bbox.beta",
        "train_cfg.rpn.allowed_border",
        "train_cfg.rpn_proposal.max_per_img",
        "roi_head.mask_head",
    }


def test_the_prompt_head_is_our_mask_rcnn_but_for_what_rsprompter_changes(maps):
    """RSPrompter-anchor in RS4D: anchors of two scales, 256 regions, codes of places, masks of the whole image."""
    found = sections(RSPrompter, maps)
    own = found["roi_head"]["mask_head"].keys() - {"in_channels", "loss_mask", "decoder_checkpoint"}
    assert differences(found, sections(MaskRCNN, maps)) == {
        "rpn_head.type",
        "rpn_head.anchor_generator.scales",
        "roi_head.type",
        "roi_head.positional_encoding",
        *(f"roi_head.mask_head.{key}" for key in own | {"num_convs", "conv_out_channels", "num_classes"}),
        "train_cfg.rcnn.sampler.num",
        "train_cfg.rcnn.mask_size",
        *(f"train_cfg.rcnn.{key}" for key in ("num_points", "oversample_ratio", "importance_sample_ratio")),
    }
    assert found["rpn_head"]["anchor_generator"]["scales"] == [4, 8]
    assert found["train_cfg"]["rcnn"]["sampler"]["num"] == 256
    assert found["roi_head"]["mask_roi_extractor"]["roi_layer"]["output_size"] == 14
    code = found["roi_head"]["positional_encoding"]
    assert (code["type"], code["num_feats"], code["normalize"]) == ("SinePositionalEncoding", 128, True)
    mask_head = found["roi_head"]["mask_head"]
    assert (mask_head["prompts"], mask_head["decoder_channels"], mask_head["image_stride"]) == (5, 256, 16)
    assert mask_head["prompt_sine"], "RSPrompter's own; the recipes of RS4D have it off"
    assert mask_head["loss_mask"] == {"type": "CrossEntropyLoss", "use_mask": True}
