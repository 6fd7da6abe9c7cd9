"""Stacks of small matrices in both layouts."""

import pytest
import torch

from plumbline.models.regression.small_matrices import SMALL, SamplesFirst, SamplesLast, layout, multiply, multiply_add


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Sums of at most 8 products, in another order.
ROUNDING = 1e-14


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_multiply(dim):
    """Products sample by sample, of transposed views too, with and without a sum to add to."""
    a, b = draw(dim, dim, 7), draw(dim, dim, 7, seed=1)
    assert torch.allclose(multiply(a, b), torch.einsum("ijn,jkn->ikn", a, b), atol=ROUNDING)
    turned = a.transpose(0, 1)
    assert torch.allclose(multiply(turned, b), torch.einsum("jin,jkn->ikn", a, b), atol=ROUNDING)
    out = draw(dim, dim, 7, seed=2)
    expected = out + multiply(a, b)
    assert torch.allclose(multiply_add(out, a, b), expected, atol=ROUNDING)
    assert torch.allclose(out, expected, atol=ROUNDING)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 1), (2, 0)])
def test_product_under_vmap(axes):
    """A run axis anywhere, on one factor or both, with gradients that add up over shared factors."""
    shapes = [[3, 3, 4], [3, 3, 4]]
    for shape, axis in zip(shapes, axes, strict=True):
        if axis is not None:
            shape.insert(axis, 6)
    a, b = draw(*shapes[0]).requires_grad_(), draw(*shapes[1], seed=1).requires_grad_()
    result = torch.func.vmap(SamplesLast.product, in_dims=axes)(a, b)
    moved = [x if axis is None else x.movedim(axis, 0) for x, axis in zip((a, b), axes, strict=True)]
    expected = torch.einsum("...ijn,...jkn->...ikn", *moved)
    assert torch.allclose(result, expected, atol=ROUNDING)
    pull = draw(*result.shape, seed=2)
    for got, want in zip(
        torch.autograd.grad((result * pull).sum(), (a, b)),
        torch.autograd.grad((expected * pull).sum(), (a, b)),
        strict=True,
    ):
        assert torch.allclose(got, want, atol=10 * ROUNDING)  # sums over runs as well


def test_product_has_two_derivatives():
    """First and second derivatives agree with finite differences."""
    a, b = draw(2, 2, 3).requires_grad_(), draw(2, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(SamplesLast.product, (a, b))
    assert torch.autograd.gradgradcheck(SamplesLast.product, (a, b))


def test_layouts_agree():
    """Every operation means the same in both layouts."""
    x, y, k = draw(4, 3, 3), draw(4, 3, 3, seed=1), draw(3, 3, seed=2)
    for name, arguments in {
        "left": (k, "x"), "right": ("x", k), "product": ("x", "y"), "transpose": ("x",), "inner": ("x", "y"),
    }.items():  # fmt: skip
        results = []
        for kernel in (SamplesFirst, SamplesLast):
            stacks = {"x": kernel.stack(x), "y": kernel.stack(y)}
            result = getattr(kernel, name)(*(stacks[a] if isinstance(a, str) else a for a in arguments))
            results.append(result if name == "inner" else kernel.matrices(result))
        assert torch.allclose(*results, atol=ROUNDING), name
    for kernel in (SamplesFirst, SamplesLast):
        shifted = kernel.matrices(kernel.stack(x) + kernel.shared(k))
        assert torch.equal(shifted, x + k)
        assert torch.equal(kernel.matrices(kernel.stack(x)), x)
    assert layout(SMALL - 1) is SamplesLast
    assert layout(SMALL) is SamplesFirst
