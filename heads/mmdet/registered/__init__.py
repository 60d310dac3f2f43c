"""The parts that MMDetection's registries know, for plain MMDetection configs:

    custom_imports = dict(imports=["heads.mmdet.registered"])

registers all of them. A head of `heads` registers by itself what it needs.
"""

from heads.mmdet.mmcv_ops import ensure_mmcv_ops

ensure_mmcv_ops()  # before MMDetection, mmcv and MMEngine, which every module of this package imports

from heads.mmdet.registered import float32_hook, loading, optim, prompt_roi_head, student  # noqa: E402

__all__ = ["float32_hook", "loading", "optim", "prompt_roi_head", "student"]
