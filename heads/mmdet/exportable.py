"""Which parts of MMDetection an exported two-stage head may have."""

from collections.abc import Iterator, Mapping
from typing import Any

from distill.errors import UserError
from heads.mmdet.float32 import steps

_NMS_KEYS = {"type", "iou_threshold", "class_agnostic", "split_thr"}
# Names of classes that the form knows, of those parts that differ between detectors.
PLAIN = {"rpn_head": ("RPNHead",), "roi_head": ("StandardRoIHead", "CascadeRoIHead"), "mask_head": ("FCNMaskHead",)}
PROMPTED = {
    "rpn_head": ("PyramidRPNHead",),
    "roi_head": ("PromptRoIHead",),
    "mask_head": ("PromptMaskHead",),
    "positional_encoding": ("SinePositionalEncoding",),
}
_BOX_HEADS = ("BBoxHead", "ConvFCBBoxHead", "Shared2FCBBoxHead", "Shared4Conv1FCBBoxHead")


def require_exportable(owner: str, rpn_head: Any, roi_head: Any, known: Mapping[str, tuple[str, ...]] = PLAIN) -> None:
    """Checks that `heads.mmdet.regions_form`, or `frames_form`, computes what the parts of a detector do.

    Args:
        owner: The head, for messages.
        rpn_head: MMDetection's proposal head.
        roi_head: Its second stage.
        known: `PLAIN`, or `PROMPTED` for `frames_form`.

    Raises:
        UserError: A part or a setting is not among those that the form knows.
    """
    for key, given, allowed in _choices(rpn_head, roi_head, known):
        if given not in allowed:
            raise UserError(
                f"heads.{owner} cannot be exported: it has {key} {given}, and a graph can be written for "
                + " or ".join(map(str, allowed))
            )


def _choices(rpn: Any, roi: Any, known: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Each part or setting that overrides can change: its key, what it is, what it may be."""

    def kind(part: Any) -> str:
        return type(part).__name__

    coder = ("DeltaXYWHBBoxCoder",)
    yield "rpn_head.type", kind(rpn), known["rpn_head"]
    yield "rpn_head.anchor_generator.type", kind(rpn.prior_generator), ("AnchorGenerator",)
    yield "rpn_head.bbox_coder.type", kind(rpn.bbox_coder), coder
    yield "rpn_head.loss_cls.use_sigmoid", rpn.use_sigmoid_cls, (True,)
    yield from _suppression("test_cfg.rpn", rpn.test_cfg)
    yield "test_cfg.rpn.nms_pre above 0:", rpn.test_cfg.get("nms_pre", -1) > 0, (True,)
    yield "roi_head.type", kind(roi), known["roi_head"]
    yield "roi_head.shared_head", roi.with_shared_head, (False,)
    for extractor in (*steps(roi.bbox_roi_extractor), *steps(roi.mask_roi_extractor)):
        yield "a roi_extractor.type", kind(extractor), ("SingleRoIExtractor",)
        for layer in extractor.roi_layers:
            yield "roi_layer.type", kind(layer), ("RoIAlign",)
            yield "roi_layer.pool_mode", layer.pool_mode, ("avg",)
    for head in steps(roi.bbox_head):
        yield "roi_head.bbox_head.type", kind(head), _BOX_HEADS
        yield "roi_head.bbox_head.bbox_coder.type", kind(head.bbox_coder), coder
        yield "roi_head.bbox_head.with_reg", head.with_reg, (True,)
        yield "roi_head.bbox_head.with_cls", head.with_cls, (True,)
        yield "an activation of its own in roi_head.bbox_head.loss_cls:", head.custom_activation, (False,)
    for head in steps(roi.mask_head):
        yield "roi_head.mask_head.type", kind(head), known["mask_head"]
    if "positional_encoding" in known:
        yield "roi_head.positional_encoding.type", kind(roi.positional_encoding), known["positional_encoding"]
    yield from _suppression("test_cfg.rcnn", roi.test_cfg)


def _suppression(key: str, config: Any) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    yield f"{key}.nms.type", config.nms.get("type", "nms"), ("nms",)
    unknown = sorted(config.nms.keys() - _NMS_KEYS)
    yield f"{key}.nms keys", ", ".join(unknown), ("",)
    yield f"{key}.max_per_img above 0:", config.max_per_img > 0, (True,)
