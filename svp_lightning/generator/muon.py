"""Muon: momentum whose update of every weight matrix is made orthogonal.

    M <- beta M + (1 - beta) G
    W <- (1 - lr wd) W - 0.2 lr sqrt(max(r, c)) orth(beta M + (1 - beta) G)

for matrices of r rows and c columns; orth(U) has U's singular vectors and singular values near
one. A step then moves all directions alike, also those whose gradients are relatively small,
where AdamW crawls. With the factor updates are as large as AdamW's, so both take one learning
rate (Liu et al. 2025, arXiv 2502.16982).

Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024,
https://kellerjordan.github.io/posts/muon/. torch.optim.Muon takes no convolutions, and rounds to
bfloat16, which most CPUs emulate.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al.; five steps bring singular values from 0.002 to 1 of the matrix's
norm into 0.68 to 1.21, smaller ones part of the way."""
NEWTON_SCHULZ_STEPS = 5
MOMENTUM = 0.95
UPDATE_SIZE = 0.2
"""Root mean square of an update at learning rate one; AdamW's are 0.2 to 0.4."""
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


class Muon(Optimizer):
    """Muon for ``matrices``, AdamW for everything else (norms, biases, embeddings).

    A weight (out, ...) counts as a matrix (out, rest). The learning rate is that of both, and so is
    the decoupled weight decay.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float,
        weight_decay: float,
    ) -> None:
        groups = [
            {"params": list(matrices), "orthogonal": True},
            {"params": list(others), "orthogonal": False},
        ]
        groups = [group for group in groups if group["params"]]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["orthogonal"]:
                self._step_orthogonally(parameters, group)
            else:
                self._step_like_adamw(parameters, group)
        return loss

    def _step_orthogonally(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [_gradient(p) for p in parameters]
        momenta = self._states(parameters, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = list(torch._foreach_lerp(gradients, momenta, MOMENTUM))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for alike in _by_shape(updates):
            # In float32 whatever the weights are: bfloat16 is too coarse for powers of X X'.
            stacked = torch.stack([updates[k].flatten(1) for k in alike]).float()
            size = UPDATE_SIZE * max(stacked.shape[1:]) ** 0.5
            for k, update in zip(alike, orthogonalised(stacked), strict=True):
                parameters[k].add_(update.reshape(parameters[k].shape), alpha=-group["lr"] * size)

    def _step_like_adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            # On the CPU wherever the weights are, as torch's own optimisers have it.
            self.state[p].setdefault("step", torch.zeros(()))
        adamw(
            parameters,
            [_gradient(p) for p in parameters],
            self._states(parameters, "exp_avg"),
            self._states(parameters, "exp_avg_sq"),
            [],
            [self.state[p]["step"] for p in parameters],
            amsgrad=False,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=ADAM_EPS,
            maximize=False,
        )

    def _states(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]


def orthogonalised(updates: Tensor) -> Tensor:
    """Float32 (n, rows, columns) with the singular vectors of ``updates`` and values near one.

    Newton and Schulz's iteration X <- (a + b X X' + c (X X')^2) X. All its steps multiply from the
    left by polynomials of the same small matrix X X', so they are done on that one and the product
    is applied once: a fourth of the work where matrices are wide. Zeros stay zeros.
    """
    if updates.shape[1] > updates.shape[2]:
        return orthogonalised(updates.mT).mT
    if updates.is_cuda:
        return orthogonalised_in_bfloat16(updates)
    a, b, c = NEWTON_SCHULZ
    gram = updates @ updates.mT
    norm = gram.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None].clamp(min=1e-30)
    gram = gram / norm
    identity = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
    product = factor = a * identity + b * gram + c * gram @ gram
    for _ in range(NEWTON_SCHULZ_STEPS - 1):
        gram = factor @ gram @ factor
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
    return (product / norm.sqrt()) @ updates


def orthogonalised_in_bfloat16(updates: Tensor) -> Tensor:
    """The same for tensor cores, which are ten times faster in bfloat16; rows at most columns.

    X itself is iterated on (Jordan et al. 2024): the small eigenvalues of X X' are squares and
    would be lost in rounding.
    """
    a, b, c = NEWTON_SCHULZ
    norm = updates.norm(dim=(1, 2), keepdim=True).clamp(min=1e-15)
    x: Tensor = (updates / norm).bfloat16()
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(updates.dtype)


def _by_shape(tensors: list[Tensor]) -> list[list[int]]:
    """Positions of tensors that make matrices of one shape, for one batch each."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, tensor in enumerate(tensors):
        found[(len(tensor), tensor[0].numel())].append(k)
    return list(found.values())


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
