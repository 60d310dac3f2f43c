"""A linear probe: regularised multinomial logistic regression.

Axes: N samples, C channels, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

PENALTY = 3e-2  # lambda
_STEPS = 500  # of L-BFGS, at most
_TOLERANCE = 1e-4  # of the largest component of the gradient


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        weight: (K, C) float64.
        bias: (K,) float64.
    """

    weight: Tensor
    bias: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Classes (N,) of features (N, C); of equal logits the first."""
        return (features.double() @ self.weight.T + self.bias).argmax(dim=1)


def fit_linear(features: Tensor, labels: Tensor, classes: int, penalty: float = PENALTY) -> LinearProbe:
    """Minimises cross-entropy + penalty / 2 * ||weight||^2 by L-BFGS, in float64 and from zero.

    The cross-entropy is the mean over classes of the mean over the samples of a class, because `balanced_accuracy`
    weighs classes alike. The bias is not penalised. The minimum is unique, so nothing depends on chance; scikit-learn's
    `LogisticRegression(C=1 / (penalty * N), class_weight="balanced")` has the same.

    Args:
        features: (N, C), standardised: the penalty counts on one scale of all channels.
        labels: (N,) integers below K; every class is there.
        classes: K.
        penalty: The strength lambda of the regularisation, which does not depend on N.
    """
    # A validation runs in inference mode, whose tensors take no part in a gradient until they are copied.
    with torch.inference_mode(False), torch.enable_grad():
        return _solve(features.detach().cpu().double().clone(), labels.cpu().clone(), classes, penalty)


def _solve(features: Tensor, labels: Tensor, classes: int, penalty: float) -> LinearProbe:
    parameters = features.new_zeros(classes, features.shape[1] + 1).requires_grad_()
    balance = 1 / torch.bincount(labels, minlength=classes).double()  # `cross_entropy` divides by the sum of weights
    solver = torch.optim.LBFGS(
        [parameters], max_iter=_STEPS, tolerance_grad=_TOLERANCE, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        solver.zero_grad()
        weight, bias = parameters[:, :-1], parameters[:, -1]
        loss = cross_entropy(features @ weight.T + bias, labels, balance) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    found = parameters.detach()
    return LinearProbe(found[:, :-1], found[:, -1])
