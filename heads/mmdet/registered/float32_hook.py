"""Mixed precision for MMEngine's runner: convolutions follow autocast, boxes and losses stay in float32.

    custom_imports = dict(imports=["heads.mmdet.registered"])
    custom_hooks = [dict(type="DistillFloat32Hook")]

belongs to `optim_wrapper = dict(type="AmpOptimWrapper", ...)`.
"""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from heads.mmdet.float32 import answer_in_float32


@HOOKS.register_module(name="DistillFloat32Hook")
class Float32Hook(Hook):
    """Makes the heads of a two-stage detector return float32, as those of `heads.mmdet.two_stage.TwoStageHead` do.

    The levels that they read are float32 already where they come from `DistillNeck`.
    """

    def before_run(self, runner: Any) -> None:
        """Installs the hooks before the first step."""
        detector = runner.model.module if is_model_wrapper(runner.model) else runner.model
        answer_in_float32(detector.rpn_head, detector.roi_head)
