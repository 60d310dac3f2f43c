"""Parameter groups of fine-tuning for MMEngine's runner."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from distill.parameter_groups import parameter_groups


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name="DistillOptimWrapperConstructor")
class DistillOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Four parameter groups: the backbone and the rest, each with and without weight decay.

    Not decayed are vectors and scalars (norms, biases) and what a component lists in `no_weight_decay()`, such as
    A_log and the position embedding of RS4D. MMEngine's own constructor can name these only one by one as soon as the
    backbone has a learning rate of its own. `paramwise_cfg` is `dict(student_lr_mult=...)`: the learning rate of the
    backbone as a fraction of the optimizer's.
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Fills `params` with the groups of the detector `module`; the other arguments are MMEngine's."""
        backbone = {id(parameter) for parameter in module.backbone.parameters()}  # type: ignore[union-attr]
        for own in (True, False):
            lr = self.base_lr * (self.paramwise_cfg["student_lr_mult"] if own else 1)
            for group in parameter_groups(module, self.base_wd):
                chosen = [parameter for parameter in group["params"] if (id(parameter) in backbone) == own]
                if chosen:
                    params.append({**group, "params": chosen, "lr": lr})
