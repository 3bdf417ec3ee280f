"""Divergences in pieces against whole tables of float64 probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genrm_lightning import distillation
from genrm_lightning.distillation import divergence

WAYS = [("forward", 0.5), ("reverse", 0.5), ("jsd", 0.5), ("jsd", 0.1)]


def plain(student: Tensor, teacher: Tensor, weight: Tensor, kind: str, mix: float) -> Tensor:
    """As arXiv 2306.13649 writes them."""
    p, q = ((states.double() @ weight.double().T).softmax(-1) for states in (teacher, student))
    m = mix * p + (1 - mix) * q

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum(-1)

    return {"forward": kl(p, q), "reverse": kl(q, p), "jsd": mix * kl(p, m) + (1 - mix) * kl(q, m)}[kind]


def states(n: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(rows, 8, generator=draw, requires_grad=True) for rows in (n, n, 30))


@pytest.mark.parametrize(("kind", "mix"), WAYS)
@pytest.mark.parametrize("chunk", [4, 256])
def test_values_and_gradients(monkeypatch, kind, mix, chunk):
    monkeypatch.setattr(distillation, "_CHUNK", chunk)
    student, teacher, weight = states()
    found = divergence(student, teacher, weight, kind, mix)
    expected = plain(student, teacher.detach(), weight, kind, mix)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    shares = torch.rand(11, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((found * shares).sum(), (student, teacher), allow_unused=True)
    theirs = torch.autograd.grad((expected * shares).sum(), student)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
    assert ours[1] is None, "the teacher is a target"
    with torch.no_grad():
        torch.testing.assert_close(divergence(student, teacher, weight, kind, mix), found.detach())


@pytest.mark.parametrize(("kind", "mix"), WAYS)
def test_the_heads_gradient_is_the_students(kind, mix):
    """A tied or trained vocabulary head serves both; it learns through the student alone."""
    student, teacher, weight = states()
    (found,) = torch.autograd.grad(divergence(student, teacher, weight, kind, mix).sum(), weight)
    fixed = (teacher @ weight.T).detach().double().softmax(-1)
    q = (student @ weight.T).double().softmax(-1)
    m = mix * fixed + (1 - mix) * q
    kls = {
        "forward": fixed * (fixed / q).log(),
        "reverse": q * (q / fixed).log(),
        "jsd": mix * fixed * (fixed / m).log() + (1 - mix) * q * (q / m).log(),
    }
    (expected,) = torch.autograd.grad(kls[kind].sum(), weight)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "mix"), WAYS)
def test_none_where_both_agree(kind, mix):
    student, teacher, weight = states()
    torch.testing.assert_close(divergence(student, student, weight, kind, mix), torch.zeros(11), atol=1e-6, rtol=0)
    assert (divergence(student, teacher, weight, kind, mix) > 1e-3).all()
    assert divergence(student[:0], teacher[:0], weight, kind, mix).shape == (0,)


@pytest.mark.parametrize(("kind", "mix"), WAYS)
def test_under_autocast(kind, mix):
    """Factors rounded to bf16, products summed in float32: close to what float64 has of the states."""
    student, teacher, weight = states()
    expected = plain(student, teacher, weight, kind, mix)
    with torch.autocast("cpu", torch.bfloat16):
        found = divergence(student, teacher, weight, kind, mix)
        assert divergence(student, student, weight, kind, mix).abs().max() < 1e-6
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.05)
    gradients = [torch.autograd.grad(values.sum(), student)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, atol=0.05, rtol=0.05)


def test_no_table_of_logits_waits_for_the_backward_pass():
    """What is kept grows with the states, not with positions times vocabulary."""
    student, teacher, weight = torch.randn(64, 8, requires_grad=True), torch.randn(64, 8), torch.randn(500, 8)
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes() // 4
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        found = divergence(student, teacher, weight)
    assert sum(kept.values()) == student.numel()
    found.sum().backward()
    assert student.grad.abs().max() > 0
