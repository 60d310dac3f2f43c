"""Running statistics of batch norms, estimated again on clean images.

Training leaves them with those of corrupted views, and of other weights than averaged ones.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    """The buffers of a module's batch norms by their names in its state dict; empty where there are none."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    buffers = {id(buffer) for part in norms for buffer in part.buffers(recurse=False)}
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in buffers}


def estimate_again(module: nn.Module, batches: Iterable[Tensor], limit: int) -> int:
    """Replaces the statistics by those of the first images.

    Args:
        module: Takes the batches.
        batches: Images (B, C, H, W), normalised.
        limit: Images after which no further batch is taken.

    Returns:
        How many images there were.
    """
    seen = 0

    def first() -> Iterator[Tensor]:
        nonlocal seen
        for batch in batches:
            yield batch
            seen += len(batch)
            if seen >= limit:
                return

    update_bn(first(), module)
    return seen
