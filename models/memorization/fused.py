"""The passes over all contexts that training spends its time in, each with its gradient, run after run.

The functions carry a leading run axis. They go through the runs one by one in buffers that stay in the processor's
cache: a batch of runs written with one tensor program each step moves tens of megabytes through memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu


def cross_entropy(unembedding: Tensor, states: Tensor, joint: Tensor) -> Tensor:
    """∑ J (logsumexp_N W E − W E) from W (N, d), E (d, T) and a constant J (N, T): a scalar tensor."""
    return _CrossEntropy.apply(*(tensor.unsqueeze(0) for tensor in (unembedding, states, joint)))[0].squeeze(0)


def attention_of_two(query: Tensor, inputs: list[Tensor], values: list[Tensor]) -> Tensor:
    """`token_attention` of two positions: (m, N, N), by the first and the second token."""
    tables = (query, *inputs, *values)
    return _AttentionOfTwo.apply(*(tensor.unsqueeze(0) for tensor in tables))[0].squeeze(0)


def perceptron(states: Tensor, inner: Tensor, bias: Tensor, outer: Tensor) -> Tensor:
    """W_2 GELU(W_1 r + b) from r (d, T), W_1 (w, d), b (w,), W_2 (d, w): a tensor (d, T)."""
    return _Perceptron.apply(*(tensor.unsqueeze(0) for tensor in (states, inner, bias, outer)))[0].squeeze(0)


class _ByRun(torch.autograd.Function):
    """A function of tensors with a leading run axis; under vmap the vectorised axis joins it."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> Any:
        size = info.batch_size
        moved = (
            tensor.unsqueeze(0).expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
            for tensor, axis in zip(tensors, in_dims, strict=True)
        )
        outputs = cls.apply(*(tensor.flatten(0, 1) for tensor in moved))
        return tuple(output.unflatten(0, (size, -1)) for output in outputs), (0,) * len(outputs)


class _CrossEntropy(_ByRun):
    @staticmethod
    def forward(unembedding: Tensor, states: Tensor, joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses = states.new_empty(len(states))
        by_unembedding, by_states = states.new_empty(unembedding.shape), states.new_empty(states.shape)
        scores = states.new_empty(unembedding.shape[1], states.shape[2])
        for run, (w, e, j) in enumerate(zip(unembedding, states, joint, strict=True)):
            prior = j.sum(0)
            torch.mm(w, e, out=scores)
            highest = scores.amax(0)
            losses[run] = torch.dot(prior, highest) - torch.dot(j.reshape(-1), scores.reshape(-1))
            sums = scores.sub_(highest).exp_().sum(0)
            losses[run] += torch.dot(prior, sums.log())
            torch.addcmul(j, scores, prior / sums, value=-1, out=scores)  # J − ρ softmax
            by_unembedding[run] = (e @ scores.mT).mT.neg_()
            torch.addmm(by_states[run], w.mT, scores, beta=0, alpha=-1, out=by_states[run])
        return losses, by_unembedding, by_states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        w, e, joint, by_unembedding, by_states = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are wanted: the gradient as a function of W and E
            error = (w @ e).softmax(1) * joint.sum(1, keepdim=True) - joint
            by_unembedding, by_states = error @ e.mT, w.mT @ error
        grad = grads[0].view(-1, 1, 1)
        return grad * by_unembedding, grad * by_states, None


class _AttentionOfTwo(_ByRun):
    """Tables of all heads are one matrix, (t_1, heads t_2), so that scores and their gradients are single products."""

    @staticmethod
    def forward(query: Tensor, x_1: Tensor, x_2: Tensor, value_1: Tensor, value_2: Tensor) -> tuple[Tensor, Tensor]:
        runs, heads, d, n = query.shape
        first = query.new_empty(runs, n, heads, n)  # the weight of the first token; the second has the rest
        total = query.new_empty(runs, value_1.shape[2], n, n)
        by_second = query.new_empty(n, heads, n)
        queries = query.transpose(1, 2).reshape(runs, d, heads * n)
        own = (x_2.unsqueeze(1) * query).sum(2)
        for run, weight in enumerate(first):
            torch.mm(x_1[run].mT, queries[run], out=weight.view(n, heads * n))
            weight.sub_(own[run]).sigmoid_()
            by_second.copy_(weight.transpose(0, 2))
            torch.sub(
                torch.bmm(value_1[run], weight).transpose(0, 1),
                torch.bmm(value_2[run], by_second).permute(1, 2, 0),
                out=total[run],
            )
            total[run] += value_2[run].sum(2).mT.unsqueeze(1)
        return total, first

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        *inputs, first = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.func.vjp(_attention_of_two, *inputs)[1](grads[0])
        query, x_1, x_2, value_1, value_2 = inputs
        by_query, by_x_1, by_x_2, by_value_1, by_value_2 = (query.new_empty(table.shape) for table in inputs)
        n, heads = first.shape[1:3]
        by_first, by_second = (query.new_empty(n, heads, n) for _ in range(2))
        for run, weight in enumerate(first):
            by_token_1 = grads[0][run].transpose(0, 1).contiguous()  # (t_1, m, t_2)
            by_token_2 = grads[0][run].permute(2, 0, 1).contiguous()  # (t_2, m, t_1)
            by_second.copy_(weight.transpose(0, 2))  # (t_2, heads, t_1)
            torch.bmm(by_token_1, weight.mT, out=by_value_1[run])
            by_sum = by_token_2.sum(2, keepdim=True)
            torch.sub(by_sum, torch.bmm(by_token_2, by_second.mT), out=by_value_2[run])
            torch.bmm(value_1[run].mT, by_token_1, out=by_first)
            torch.bmm(value_2[run].mT, by_token_2, out=by_second)
            by_first.sub_(by_second.transpose(0, 2))
            torch.ops.aten.sigmoid_backward.grad_input(by_first, weight, grad_input=by_first)
            by_score = by_first.view(n, heads * n)
            by_own = by_first.sum(0).unsqueeze(1)
            of_query = (x_1[run] @ by_score).unflatten(1, (heads, n)).transpose(0, 1)
            torch.addcmul(of_query, by_own, x_2[run], value=-1, out=by_query[run])
            torch.mm(query[run].transpose(0, 1).flatten(1), by_score.mT, out=by_x_1[run])
            torch.sum(by_own * query[run], 0, out=by_x_2[run]).neg_()
        return by_query, by_x_1, by_x_2, by_value_1, by_value_2


def _attention_of_two(query: Tensor, x_1: Tensor, x_2: Tensor, value_1: Tensor, value_2: Tensor) -> Tensor:
    """The same, as one tensor program that can be differentiated any number of times."""
    own = (x_2.unsqueeze(1) * query).sum(2)
    weight = (x_1.mT.unsqueeze(1) @ query - own.unsqueeze(2)).sigmoid()
    return torch.einsum("rhij,rimh->rmij", weight, value_1) + torch.einsum("rhij,rjmh->rmij", 1 - weight, value_2)


class _Perceptron(_ByRun):
    """Some hundred contexts at a time: the hidden units of all of them are the largest table of the model."""

    @staticmethod
    def forward(states: Tensor, inner: Tensor, bias: Tensor, outer: Tensor) -> tuple[Tensor]:
        total = states.new_empty(states.shape[0], outer.shape[1], states.shape[2])
        for run, part in _parts(states, inner):
            hidden = torch.addmm(bias[run].unsqueeze(1), inner[run], states[run, :, part])
            torch.mm(outer[run], gelu(hidden), out=total[run, :, part])
        return (total,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        states, inner, bias, outer = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.func.vjp(_perceptron, states, inner, bias, outer)[1](grad)
        by_states = torch.empty_like(states)
        by_inner, by_bias, by_outer = (torch.zeros_like(weight) for weight in (inner, bias, outer))
        for run, part in _parts(states, inner):
            hidden = torch.addmm(bias[run].unsqueeze(1), inner[run], states[run, :, part])
            by_outer[run].addmm_(grad[run, :, part], gelu(hidden).mT)
            by_hidden = torch.ops.aten.gelu_backward(outer[run].mT @ grad[run, :, part], hidden)
            by_inner[run].addmm_(by_hidden, states[run, :, part].mT)
            by_bias[run] += by_hidden.sum(1)
            torch.mm(inner[run].mT, by_hidden, out=by_states[run, :, part])
        return by_states, by_inner, by_bias, by_outer


def _parts(states: Tensor, inner: Tensor) -> Iterator[tuple[int, slice]]:
    """Every run, and slices of its contexts with some 2^17 hidden units each."""
    runs, _, contexts = states.shape
    size = max(64, 2**17 // inner.shape[1])
    for run in range(runs):
        for start in range(0, contexts, size):
            yield run, slice(start, start + size)


def _perceptron(states: Tensor, inner: Tensor, bias: Tensor, outer: Tensor) -> Tensor:
    """The same, as one tensor program that can be differentiated any number of times."""
    return outer @ gelu(inner @ states + bias.unsqueeze(-1))
