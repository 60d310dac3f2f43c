"""The optimizer of our fine-tuning, for MMEngine's runner."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from heads.mmdet.mmcv_ops import ensure_mmcv_ops

ensure_mmcv_ops()  # before MMEngine

from mmengine.optim import DefaultOptimWrapperConstructor  # noqa: E402
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS  # noqa: E402


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name="DistillOptimWrapperConstructor")
class DistillOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Four parameter groups: the backbone and the rest, each with and without weight decay.

    Not decayed are vectors and scalars (norms, biases) and what a module lists in timm's `no_weight_decay()`, such as
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
        undecayed = {id(parameter) for parameter in _undecayed(module)}
        for own in (True, False):
            for decayed in (True, False):
                chosen = [
                    parameter
                    for parameter in module.parameters()
                    if parameter.requires_grad
                    and (id(parameter) in backbone) == own
                    and (id(parameter) not in undecayed) == decayed
                ]
                lr = self.base_lr * (self.paramwise_cfg["student_lr_mult"] if own else 1)
                if chosen:
                    params.append({"params": chosen, "lr": lr, "weight_decay": self.base_wd if decayed else 0.0})


def _undecayed(module: nn.Module) -> Iterator[nn.Parameter]:
    for owner in module.modules():
        listed: Any = getattr(owner, "no_weight_decay", set)
        names = listed()
        yield from (parameter for name, parameter in owner.named_parameters() if name in names)
    yield from (parameter for parameter in module.parameters() if parameter.ndim <= 1)
