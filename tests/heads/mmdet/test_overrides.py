import pytest

from distill.errors import UserError
from heads.mmdet.overrides import apply_overrides

CONFIG = {
    "rpn_head": {"type": "RPNHead", "loss_bbox": {"type": "SmoothL1Loss"}, "anchor_generator": {"ratios": [0.5, 1.0]}},
    "roi_head": {
        "type": "CascadeRoIHead",
        "bbox_head": [{"type": "Shared2FCBBoxHead", "num_classes": 2}, {"type": "Shared2FCBBoxHead", "num_classes": 2}],
    },
    "test_cfg": {"rcnn": {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}}},
}


def changed(overrides):
    return apply_overrides(CONFIG, overrides, "MaskRCNN")


def test_nested_and_dotted_keys_mean_the_same():
    nested = changed({"test_cfg": {"rcnn": {"score_thr": 0.2, "nms": {"iou_threshold": 0.4}}}})
    assert nested == changed({"test_cfg.rcnn.score_thr": 0.2, "test_cfg.rcnn": {"nms.iou_threshold": 0.4}})
    assert nested["test_cfg"]["rcnn"] == {"score_thr": 0.2, "nms": {"type": "nms", "iou_threshold": 0.4}}
    assert CONFIG["test_cfg"]["rcnn"]["score_thr"] == 0.05


def test_an_argument_that_we_leave_at_its_default_can_be_given():
    merged = changed(
        {
            "rpn_head.loss_bbox.beta": 0.1,
            "rpn_head.init_cfg.std": 0.02,
            "rpn_head.num_convs": 2,
            "test_cfg.rcnn.nms.class_agnostic": True,
        }
    )
    assert merged["rpn_head"]["loss_bbox"] == {"type": "SmoothL1Loss", "beta": 0.1}
    assert merged["rpn_head"]["init_cfg"] == {"std": 0.02}
    assert merged["rpn_head"]["num_convs"] == 2
    assert merged["test_cfg"]["rcnn"]["nms"]["class_agnostic"] is True


def test_lists_are_reached_whole_by_entry_or_in_every_entry():
    assert changed({"rpn_head.anchor_generator.ratios": [1.0]})["rpn_head"]["anchor_generator"]["ratios"] == [1.0]
    assert changed({"rpn_head.anchor_generator.ratios.1": 2.0})["rpn_head"]["anchor_generator"]["ratios"] == [0.5, 2.0]
    every = changed({"roi_head.bbox_head.reg_class_agnostic": True})["roi_head"]["bbox_head"]
    assert [entry["reg_class_agnostic"] for entry in every] == [True, True]
    last = changed({"roi_head.bbox_head.1.num_classes": 3})["roi_head"]["bbox_head"]
    assert [entry["num_classes"] for entry in last] == [2, 3]


def test_a_section_is_replaced_by_delete():
    merged = changed({"rpn_head": {"loss_bbox": {"_delete_": True, "type": "L1Loss", "loss_weight": 2.0}}})
    assert merged["rpn_head"]["loss_bbox"] == {"type": "L1Loss", "loss_weight": 2.0}


def test_a_key_is_checked_against_the_type_that_comes_with_it():
    assert (
        changed({"rpn_head": {"loss_bbox": {"eps": 1e-6, "type": "GIoULoss"}}})["rpn_head"]["loss_bbox"]["eps"] == 1e-6
    )
    with pytest.raises(UserError, match="beta"):
        changed({"rpn_head": {"loss_bbox": {"beta": 0.1, "type": "GIoULoss"}}})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rpn_hed.num_convs": 2}, "unknown section in overrides of heads.MaskRCNN 'rpn_hed': did you mean rpn_head"),
        ({"rpn_head.num_conv": 2}, "section rpn_head 'num_conv': did you mean num_convs"),
        ({"rpn_head": {"loss_bbox": {"bta": 1}}}, "section rpn_head.loss_bbox 'bta': did you mean beta"),
        ({"test_cfg.rcnn.score_thresh": 1}, "section test_cfg.rcnn 'score_thresh': did you mean score_thr"),
        ({"test_cfg.rccn.score_thr": 1}, "section test_cfg 'rccn': did you mean rcnn"),
        ({"test_cfg.rcnn.nms.iou_treshold": 1}, "section test_cfg.rcnn.nms 'iou_treshold': did you mean iou_threshold"),
        ({"test_cfg.rcnn.score_thr.low": 1}, "test_cfg.rcnn.score_thr is the value 0.05, which has no key 'low'"),
        ({"roi_head.bbox_head.num_clases": 1}, "section roi_head.bbox_head.0 'num_clases': did you mean num_classes"),
        ({"rpn_head.loss_bbox": None}, "rpn_head.loss_bbox is None, but that is a section"),
        ({"roi_head.bbox_head": "Shared2FCBBoxHead"}, "roi_head.bbox_head is 'Shared2FCBBoxHead', but that is a sec"),
        ({"roi_head.bbox_head.1": 3}, "roi_head.bbox_head.1 is 3, but that is a section"),
        ({"roi_head.bbox_head.2.num_classes": 1}, "section roi_head.bbox_head '2': .*valid names are 0, 1"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as raised:
        changed(overrides)
    assert "\n" not in str(raised.value)
