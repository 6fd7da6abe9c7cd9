"""The mean risk over many W and its gradient in one pass: the objective of training.

Automatic differentiation of `recursion` keeps the stacks of all layers of all samples and makes a new one for each
intermediate gradient: the processor waits for memory. Here the samples go through in blocks that fit its cache,
forward and backward at once, with gradients accumulated in place; the memory needed does not grow with the samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plumbline.models.regression.recursion import Frame, conditional_risks
from plumbline.models.regression.small_matrices import SMALL, SamplesLast, multiply, multiply_add

# Samples per block: a stack of 5 × 5 matrices in float64 takes 0.4 MB.
BLOCK = 2048

left, right = SamplesLast.left, SamplesLast.right


def mean_risk(
    w: Tensor, shares: Tensor | None, frame: Frame, key_query: Tensor, value: Tensor | None, layers: int
) -> Tensor:
    """∑ shares · `conditional_risks` (``None``: their mean), a scalar tensor.

    Differentiable to any order in the weights of the network, not in W and the shares.
    """
    if w.shape[-1] >= SMALL:
        risks = conditional_risks(w, frame, key_query, value, layers)
        return risks.mean() if shares is None else risks @ shares
    if shares is None:
        shares = w.new_full((len(w),), 1 / len(w))
    return _MeanRisk.apply(w, shares, frame, key_query, value, layers, torch.is_grad_enabled())[0]


class _MeanRisk(torch.autograd.Function):
    """The mean risk, and its gradients in (K,) or (K, B), computed along with it if asked for."""

    @staticmethod
    def forward(
        w: Tensor,
        shares: Tensor,
        frame: Frame,
        key_query: Tensor,
        value: Tensor | None,
        layers: int,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        weights = torch.stack([key_query] if value is None else [key_query, value])
        gradients = torch.zeros_like(weights)
        network = _Descent if value is None or layers == 1 else _Transformer
        total = w.new_zeros(())
        for block, share in zip(w.permute(1, 2, 0).split(BLOCK, -1), shares.split(BLOCK), strict=True):
            if frame.inverse is not None:
                block = right(left(frame.inverse, block), frame.inverse.mT)
            run = network(block.contiguous(), weights, layers)
            total += _risk(run, share, frame, gradients if with_gradients else None)
        return total, gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        w, shares, ctx.frame, key_query, value, ctx.layers, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(w, shares, key_query, value, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        w, shares, key_query, value, gradients = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Second derivatives are wanted: differentiate the recursion itself.
            risk = conditional_risks(w, ctx.frame, key_query, value, ctx.layers) @ shares
            inputs = [key_query] if value is None else [key_query, value]
            parts = torch.autograd.grad(risk, inputs, grad, create_graph=True, materialize_grads=True)
        else:
            parts = tuple(grad * part for part in gradients)
        return None, None, None, parts[0], None if value is None else parts[1], None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, int]]:
        # Run by run, so that the blocks of each stay in the cache.
        runs = [
            _MeanRisk.apply(*(x if dim is None else x.select(dim, run) for x, dim in zip(inputs, in_dims, strict=True)))
            for run in range(info.batch_size)
        ]
        totals, gradients = zip(*runs, strict=True)
        return (torch.stack(totals), torch.stack(gradients)), (0, 0)


class _Descent:
    """Zero value block, or a single layer: D_{l+1} = D_l + E_l K_l with E_l = I + D_l W.

    Attributes:
        w: W, a stack.
        answer: D_L, a stack (of a single sample for one layer).
        learned: W D_L.
    """

    def __init__(self, w: Tensor, weights: Tensor, layers: int) -> None:
        self.w, self.layers = w, layers
        self.keys = _per_layer(weights[0].sum(1), layers)
        self.errors = []
        self.answer = self.keys[0].unsqueeze(-1)
        for layer in range(1, layers):
            below = left(self.keys[0], w) if layer == 1 else multiply(self.answer, w)
            self.errors.append(_add_identity(below))
            self.answer = right(below, self.keys[layer]).add_(self.answer)
        self.learned = right(w, self.keys[0]) if layers == 1 else multiply(w, self.answer)

    def backward(self, pull: Tensor, gradients: Tensor) -> None:
        """Add the gradients in the weights, from that in D_L."""
        into = _per_layer(gradients[0], self.layers)
        for layer in range(self.layers - 1, 0, -1):
            into[layer] += (self.errors[layer - 1] @ pull.mT).sum(0)
            further = right(pull, self.keys[layer].mT)
            if layer == 1:
                into[0] += _outer(further, self.w)
            else:
                multiply_add(pull, further, self.w.transpose(0, 1))
        into[0] += pull.sum(-1)


class _Transformer:
    """Free value block, two layers or more: the recursion of `recursion`. Attributes as in `_Descent`."""

    def __init__(self, w: Tensor, weights: Tensor, layers: int) -> None:
        self.w, self.layers = w, layers
        self.keys, self.blocks = _per_layer(weights[0], layers), _per_layer(weights[1], layers)
        # Where nothing is moved heads act as one: in D_1, and in the last layer.
        self.first, self.keys[-1] = self.keys[0].sum(0), self.keys[-1].sum(0, keepdim=True)
        self.starts = [right(w, k) for k in self.keys[0]]
        moved = _add_identity(self._move(0, self.starts))
        self.answer = self.first.unsqueeze(-1)
        self.records = []
        for layer in range(1, layers):
            reads = [left(k, moved) for k in self.keys[layer]]
            updates = [multiply(moved.transpose(0, 1), read) for read in reads]
            steps = [multiply(w, update) for update in updates]
            shifts = [multiply(moved, step) for step in steps] if layer < layers - 1 else []
            step = _sum(steps)
            self.records.append((moved, self.answer, reads, step, shifts, steps))
            carried = left(self.first, step) if layer == 1 else multiply(self.answer, step)
            self.answer = carried.add_(_sum(updates)).add_(self.answer)
            if shifts:
                moved = self._move(layer, shifts).add_(moved)
        self.learned = multiply(w, self.answer)

    def _move(self, layer: int, shifts: list[Tensor]) -> Tensor:
        return _sum([left(block, shift) for block, shift in zip(self.blocks[layer], shifts, strict=True)])

    def backward(self, pull: Tensor, gradients: Tensor) -> None:
        """Add the gradients in the weights, from that in D_L."""
        into_k, into_b = (_per_layer(part, self.layers) for part in gradients)
        pull_moved: Tensor | None = None
        for layer in range(self.layers - 1, 0, -1):
            moved, answer, reads, step, shifts, steps = self.records[layer - 1]
            turned = moved.transpose(0, 1)
            common = left(self.first.mT, pull) if layer == 1 else multiply(answer.transpose(0, 1), pull)
            earlier = None if pull_moved is None else pull_moved.clone()
            for head, (k, read) in enumerate(zip(self.keys[layer], reads, strict=True)):
                pull_step = common.clone() if len(reads) > 1 else common
                if pull_moved is not None and earlier is not None:
                    into_b[layer][head] += _outer(pull_moved, shifts[head])
                    shift = left(self.blocks[layer][head].mT, pull_moved)
                    multiply_add(pull_step, turned, shift)
                    multiply_add(earlier, shift, steps[head].transpose(0, 1))
                pull_update = multiply(self.w.transpose(0, 1), pull_step).add_(pull)
                pull_read = multiply(moved, pull_update)
                into_k[layer][head if shifts else slice(None)] += _outer(pull_read, moved)
                back = left(k.mT, pull_read)
                multiply_add(back, read, pull_update.transpose(0, 1))
                earlier = back if earlier is None else earlier.add_(back)
            pull_moved = earlier
            if layer == 1:
                into_k[0] += _outer(pull, step) + pull.sum(-1)
            else:
                pull = multiply(pull, step.transpose(0, 1)).add_(pull)
        assert pull_moved is not None
        for head, start in enumerate(self.starts):
            into_b[0][head] += _outer(pull_moved, start)
            into_k[0][head] += (self.w @ left(self.blocks[0][head].mT, pull_moved).mT).sum(0)


def _risk(run: _Descent | _Transformer, share: Tensor, frame: Frame, gradients: Tensor | None) -> Tensor:
    """∑ share (tr[Ψ (I + W D)(I + W D)^T] + (σ²/n) tr[W D D^T]) for a block; adds its gradients."""
    learned, answer = run.learned, run.answer
    turned = run.w.transpose(0, 1)
    total, pull = torch.zeros_like(share[0]), None
    if frame.spread:
        total += frame.spread * (learned * answer).sum((0, 1)) @ share
        # Now, since the identity is to be added in place.
        pull = learned * (frame.spread * share)
    error = _add_identity(learned)
    pushed = error if frame.weight is None else left(frame.weight, error)
    total += (error * pushed).sum((0, 1)) @ share
    if gradients is not None:
        pull_learned = pushed * (2 * share)
        if frame.spread:
            pull_learned += answer * (frame.spread * share)
        run.backward(
            multiply(turned, pull_learned) if pull is None else multiply_add(pull, turned, pull_learned), gradients
        )
    return total


def _per_layer(weights: Tensor, layers: int) -> list[Tensor]:
    """One entry per layer: views, the same for all layers where these share their weights."""
    return list(weights) if len(weights) == layers else [weights[0]] * layers


def _add_identity(stack: Tensor) -> Tensor:
    """Add I to every matrix, in place."""
    stack.view(-1, stack.shape[-1])[:: len(stack) + 1] += 1
    return stack


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """∑ a b^T over the samples."""
    return a.reshape(len(a), -1) @ b.reshape(len(b), -1).mT


def _sum(stacks: list[Tensor]) -> Tensor:
    return stacks[0] if len(stacks) == 1 else torch.stack(stacks).sum(0)
