"""A network of one hidden layer on many states, without a table of all hidden units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu, relu

from plumbline.models.by_run import ByRun


def perceptron(
    states: Tensor, inner: Tensor, bias: Tensor, outer: Tensor, activation: Literal["gelu", "relu"]
) -> Tensor:
    """W_2 σ(W_1 r + b), (d', T), from r (d, T), W_1 (w, d), b (w,), W_2 (d', w); differentiable to any order."""
    program = {"gelu": _Gelu, "relu": _Relu}[activation]
    return program.apply(*(tensor.unsqueeze(0) for tensor in (states, inner, bias, outer)))[0].squeeze(0)


class _Perceptron(ByRun):
    """Some hundred states at a time: the hidden units of all of them are the largest table of the model."""

    @staticmethod
    def activation(hidden: Tensor) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def activation_backward(grad: Tensor, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    @classmethod
    def plain(cls, states: Tensor, inner: Tensor, bias: Tensor, outer: Tensor) -> Tensor:
        """The same, as one tensor program that can be differentiated any number of times."""
        return outer @ cls.activation(inner @ states + bias.unsqueeze(-1))

    @classmethod
    def forward(cls, states: Tensor, inner: Tensor, bias: Tensor, outer: Tensor) -> tuple[Tensor]:
        total = states.new_empty(states.shape[0], outer.shape[1], states.shape[2])
        for run, state in enumerate(states):
            for part in _parts(states, inner):
                hidden = torch.addmm(bias[run].unsqueeze(1), inner[run], state[:, part])
                torch.mm(outer[run], cls.activation(hidden), out=total[run, :, part])
        return (total,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor]) -> None:
        ctx.save_for_backward(*inputs)

    @classmethod
    def backward(cls, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, inner, bias, outer = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.func.vjp(cls.plain, states, inner, bias, outer)[1](grad)
        # Nothing is written in place: the backward pass of a backward pass may be vectorised over many gradients.
        rows = []
        for run in range(len(states)):
            by_states, by_weights = [], []
            for part in _parts(states, inner):
                here, above = states[run, :, part], grad[run, :, part]
                hidden = torch.addmm(bias[run].unsqueeze(1), inner[run], here)
                by_hidden = cls.activation_backward(outer[run].mT @ above, hidden)
                by_weights.append((by_hidden @ here.mT, by_hidden.sum(1), above @ cls.activation(hidden).mT))
                if ctx.needs_input_grad[0]:
                    by_states.append(inner[run].mT @ by_hidden)
            rows.append((by_states and torch.cat(by_states, 1), *map(sum, zip(*by_weights, strict=True))))
        by_states, *by_weights = zip(*rows, strict=True)
        return torch.stack(by_states) if ctx.needs_input_grad[0] else None, *map(torch.stack, by_weights)


class _Gelu(_Perceptron):
    @staticmethod
    def activation(hidden: Tensor) -> Tensor:
        return gelu(hidden)

    @staticmethod
    def activation_backward(grad: Tensor, hidden: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(grad, hidden)


class _Relu(_Perceptron):
    @staticmethod
    def activation(hidden: Tensor) -> Tensor:
        return relu(hidden)

    @staticmethod
    def activation_backward(grad: Tensor, hidden: Tensor) -> Tensor:
        return grad * (hidden > 0)


def _parts(states: Tensor, inner: Tensor) -> Iterator[slice]:
    """Slices of the states with some 2^17 hidden units each."""
    size = max(64, 2**17 // inner.shape[1])
    for start in range(0, states.shape[2], size):
        yield slice(start, start + size)
