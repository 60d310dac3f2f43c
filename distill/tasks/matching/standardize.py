"""PHI-S: a rotation of the channels after which all have one variance.

Targets keep their shape: all directions are scaled alike, where z-scores by channel would stretch the axes that happen
to be quiet.

Axes: K images, C channels, H W the teacher's grid.
"""

import math

import torch
from torch import Tensor

from distill.errors import UserError
from distill.layers import without_autocast


def phi_s(maps: Tensor) -> Tensor:
    """The rotation R (C, C) of PHI-S for maps (K, C, H, W); `rotate` applies it.

    With the eigenvectors U of the covariance and a Hadamard matrix H of order C, R = H Uᵀ / √C. Each channel of R x
    then has the mean of the eigenvalues as its variance, because all entries of H are 1 or -1.

    Source: Ranzinger et al., "PHI-S: Distribution Balancing for Label-Free Multi-Teacher Distillation"
    (https://arxiv.org/abs/2410.01680).

    Raises:
        UserError: No Hadamard matrix of order C is known here.
    """
    channels = maps.shape[1]
    matrix = hadamard(channels)
    if matrix is None:
        raise UserError(
            f"model.loss.standardize is phi_s, but the target has {channels} channels, and no Hadamard matrix of this "
            "order is built; set it to channel"
        )
    mean = maps.mean(dim=(0, 2, 3), dtype=torch.float64)
    covariance = torch.zeros(channels, channels, dtype=torch.float64)
    for one in maps:
        centred = one.flatten(1).double() - mean[:, None]
        covariance += centred @ centred.T
    vectors = torch.linalg.eigh(covariance).eigenvectors
    return (matrix @ vectors.T / math.sqrt(channels)).float()


def rotate(rotation: Tensor, maps: Tensor) -> Tensor:
    """R x at every position of maps (..., C, H, W), in their precision also under autocast."""
    with without_autocast(maps):
        return torch.einsum("dc,...chw->...dhw", rotation, maps)


def hadamard(order: int) -> Tensor | None:
    """A matrix of 1 and -1, (order, order), whose rows are orthogonal, in float64; None where none is built.

    By Sylvester's doubling of a matrix of Paley: the orders 2ᵏ m with m = 1, or m = q + 1 and q a prime of the form
    4 n + 3, or m = 2 (q + 1) and q a prime of the form 4 n + 1. Of the multiples of 4 up to 1024, 3 of 4 are
    such, and the widths of common networks.

    Source: Paley, "On Orthogonal Matrices", 1933.
    """
    found = torch.ones(1, 1, dtype=torch.float64) if order == 1 else _paley(order)
    if found is not None or order % 2:
        return found
    half = hadamard(order // 2)
    return None if half is None else torch.kron(torch.tensor([[1, 1], [1, -1]], dtype=torch.float64), half)


def _paley(order: int) -> Tensor | None:
    if _is_prime(order - 1) and order % 4 == 0:
        skew = _conference(order - 1, -1)
        return skew + torch.eye(order, dtype=torch.float64)
    prime = order // 2 - 1
    if order % 4 == 0 and _is_prime(prime) and prime % 4 == 1:
        symmetric = _conference(prime, 1)
        off, on = torch.tensor([[1, 1], [1, -1]]), torch.tensor([[1, -1], [-1, -1]])
        return torch.kron(symmetric, off.double()) + torch.kron(torch.eye(prime + 1), on).double()
    return None


def _conference(prime: int, corner: int) -> Tensor:
    """Paley's matrix (q + 1, q + 1): 0 on the diagonal, elsewhere 1 or -1, whose rows are orthogonal.

    It is symmetric with corner 1, for primes 4 n + 1, and skew with corner -1, for primes 4 n + 3.
    """
    squares = {number * number % prime for number in range(1, prime)}
    symbol = torch.tensor([0, *(1 if number in squares else -1 for number in range(1, prime))], dtype=torch.float64)
    places = torch.arange(prime)
    matrix = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    matrix[0, 1:], matrix[1:, 0] = 1, corner
    matrix[1:, 1:] = symbol[(places[:, None] - places) % prime]
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
