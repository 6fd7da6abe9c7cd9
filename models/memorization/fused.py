"""The passes over all contexts that training spends its time in, each with its gradient, run after run.

The functions carry a leading run axis. They go through the runs one by one in buffers that stay in the processor's
cache: a batch of runs written with one tensor program each step moves tens of megabytes through memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plumbline.models.by_run import ByRun


def cross_entropy(unembedding: Tensor, states: Tensor, joint: Tensor) -> Tensor:
    """∑ J (logsumexp_N W E − W E) from W (N, d), E (d, T) and a constant J (N, T): a scalar tensor."""
    return _CrossEntropy.apply(*(tensor.unsqueeze(0) for tensor in (unembedding, states, joint)))[0].squeeze(0)


def attention_of_two(query: Tensor, inputs: list[Tensor], values: list[Tensor]) -> Tensor:
    """`token_attention` of two positions: (m, N, N), by the first and the second token."""
    tables = (query, *inputs, *values)
    return _AttentionOfTwo.apply(*(tensor.unsqueeze(0) for tensor in tables))[0].squeeze(0)


class _CrossEntropy(ByRun):
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


class _AttentionOfTwo(ByRun):
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
