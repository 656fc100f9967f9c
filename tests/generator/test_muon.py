"""Muon: what an orthogonal update is, and that the optimiser learns and resumes."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from svp_lightning.generator.muon import Muon, orthogonalised, orthogonalised_in_bfloat16
from tests.examples import examples


def with_singular_values(values: Tensor, rows: int, columns: int, seed: int) -> Tensor:
    """A random matrix (rows, columns) of given singular values."""
    random = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(rows, rows, generator=random)).Q[:, : len(values)]
    v = torch.linalg.qr(torch.randn(columns, columns, generator=random)).Q[:, : len(values)]
    return u @ torch.diag(values) @ v.T


@examples(30)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 1000),
)
def test_singular_vectors_stay_and_singular_values_come_near_one(
    rows: int, columns: int, scale: float, seed: int
) -> None:
    count = min(rows, columns)
    matrix = with_singular_values(torch.linspace(1, 0.05, count), rows, columns, seed)
    found = orthogonalised(scale * matrix[None])[0]
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ found @ vh.T
    assert torch.all((turned.diagonal() > 0.6) & (turned.diagonal() < 1.3))
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 1e-2


def test_every_matrix_of_a_batch_is_treated_for_itself() -> None:
    random = torch.Generator().manual_seed(0)
    batch = torch.randn(5, 12, 30, generator=random) * torch.logspace(-3, 3, 5)[:, None, None]
    alone = torch.cat([orthogonalised(matrix[None]) for matrix in batch])
    torch.testing.assert_close(orthogonalised(batch), alone, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_singular_values_come_as_near_one() -> None:
    matrix = with_singular_values(torch.logspace(0, -2, 40), 40, 90, 1)
    found = orthogonalised_in_bfloat16(matrix[None])[0]
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3
    assert values.min() > 0.6
    exact = orthogonalised(matrix[None])[0]
    assert (found - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("orthogonal", [orthogonalised, orthogonalised_in_bfloat16])
def test_no_gradient_gives_no_update(orthogonal: Callable[[Tensor], Tensor]) -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 4, 7)), torch.zeros(1, 4, 7))


@pytest.fixture
def network() -> Iterator[nn.Sequential]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 1))


def muon(network: nn.Module, lr: float = 0.01, weight_decay: float = 0.0) -> Muon:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim < 2]
    return Muon(matrices, others, lr=lr, weight_decay=weight_decay)


def test_vectors_are_updated_as_adamw_does() -> None:
    """With the same gradients, and weight decay."""
    bias, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    ours = Muon([], [bias], lr=0.1, weight_decay=0.3)
    reference = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3)
    for step in range(4):
        for parameter in (bias, theirs):
            parameter.grad = torch.linspace(-1, 2, 5) * (step + 1)
        ours.step()
        reference.step()
    torch.testing.assert_close(bias, theirs)


def test_an_update_is_as_large_as_the_learning_rate_says() -> None:
    weight = nn.Parameter(torch.zeros(16, 4, 3, 3))
    optimizer = Muon([weight], [], lr=0.5, weight_decay=0.0)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) * 1e-4
    optimizer.step()
    # 16 singular values near one, spread over 16 x 36 entries, times 0.2 sqrt(36).
    assert weight.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.2)


def test_weights_in_bfloat16_get_the_update_of_float32() -> None:
    gradient = torch.randn(24, 60, generator=torch.Generator().manual_seed(5)).bfloat16()
    updated = []
    for dtype in (torch.float32, torch.bfloat16):
        weight = nn.Parameter(torch.zeros(24, 60, dtype=dtype))
        weight.grad = gradient.to(dtype)
        Muon([weight], [], lr=1.0, weight_decay=0.0).step()
        updated.append(weight.detach().float())
    torch.testing.assert_close(updated[1], updated[0], rtol=0.05, atol=0.02)


def test_a_parameter_without_gradient_stays(network: nn.Sequential) -> None:
    before = network[0].weight.clone()
    optimizer = muon(network, weight_decay=0.5)
    network[3].weight.grad = torch.ones_like(network[3].weight)
    optimizer.step()
    assert torch.equal(network[0].weight, before)


def test_learns_and_resumes_from_its_state(network: nn.Sequential) -> None:
    optimizer, other = muon(network), deepcopy(network)

    def train(network: nn.Module, optimizer: Muon, steps: range) -> float:
        """On fixed random images; the last loss."""
        for step in steps:
            images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(step % 4))
            loss = (network(images)[:, 0] - images.mean(dim=(1, 2, 3))).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    before = train(other, muon(other, lr=1e-9), range(1))
    train(network, optimizer, range(3))
    other.load_state_dict(network.state_dict())
    again = muon(other)
    again.load_state_dict(deepcopy(optimizer.state_dict()))
    for one in ((network, optimizer), (other, again)):
        assert train(*one, range(3, 200)) < 0.05 * before
    weights = other.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_agrees_with_the_iteration_on_the_whole_matrix() -> None:
    matrix = with_singular_values(torch.logspace(0, -4, 40), 40, 90, 1)
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(orthogonalised(matrix[None])[0], x, rtol=1e-3, atol=1e-3)
