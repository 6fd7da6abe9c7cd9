"""A given model of next tokens: its divergence, what it stores beside its capacity, and the claims that apply to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.claims.capacity import numerical_rank
from plumbline.analysis.subject.model_report import (
    Finding,
    ModelClaim,
    ModelReport,
    Reference,
    claim_on_model,
    held,
    report_on,
)
from plumbline.analysis.subject.reader import Reader
from plumbline.analysis.verdict import BoundExists, Verdict
from plumbline.analysis.verdict.levels import LEVELS
from plumbline.models.memorization import (
    AttentionOnlyTransformer,
    CompressedAttentionTransformer,
    MLPTransformer,
    NextTokenModel,
    SequenceEncoder,
)
from plumbline.models.weights import fill
from plumbline.theory.estimate import Estimate
from plumbline.theory.memorization import (
    LowRankOptimum,
    NgramTask,
    accuracy_lower_bound,
    attention_only_capacity,
    best_constant_divergence,
    codimension_one_optimum,
    compressed_attention_capacity,
    conditional_entropy,
    one_dimensional_divergence,
    optimal_low_rank,
    rank_for_zero_divergence,
    uniform_divergence,
)

ROUNDING = 1e-12
"""Of exact divergences of float64 logits, in units of the uniform one."""
MAX_RANK_CONTEXTS = 10_000
"""Contexts up to which the features of all are brought together for their rank."""
MAX_CODIMENSION_VOCAB = 8
REACHED = 1e-8
"""A divergence below it counts as 0."""


def build(weights: Mapping[str, Tensor], task: NgramTask, options: Mapping[str, Any]) -> NextTokenModel:
    """The module of these weights: class and sizes follow from names and shapes."""
    n, length = task.vocab_size, task.context_length
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    tokens, embed_dim = (*shapes.get("unembedding", ()), n, 1)[:2]
    if tokens != n:
        raise ValueError(f"task must have vocab_size {tokens} as the weights, got {n}")
    query = shapes.get("query", ())
    if "encoding" in shapes:
        return fill(SequenceEncoder(n, length, embed_dim, init_scale=0.0), weights)
    if len(query) != 4:
        heads, head_dim, _ = query if len(query) == 3 else (1, 1, 1)
        return fill(AttentionOnlyTransformer(n, length, heads, head_dim or 1, embed_dim, init_scale=0.0), weights)
    layers, heads, head_dim, _ = query
    sizes: dict[str, Any] = {
        "heads": heads,
        "head_dim": head_dim or 1,
        "embed_dim": embed_dim,
        "layers": layers or 1,
        "init_scale": 0.0,
    }
    if "inner" in shapes:
        return fill(MLPTransformer(n, length, width=(*shapes["inner"], 1, 1)[1] or 1, **sizes), weights)
    return fill(CompressedAttentionTransformer(n, length, **sizes), weights)


def report(model: NextTokenModel, task: NgramTask, *, margin: float, seed: int) -> ModelReport:
    """What is said about a model of a next-token law, see `plumbline.analysis.check_model`."""
    reading = _ModelReading(model, task, margin, seed)
    return report_on(
        reading, _claims, family="memorization", quantity="divergence from the law, in nats", loss=reading.divergence
    )


class _ModelReading:
    """What is computed once about a model and its task, and what could not be."""

    def __init__(self, model: NextTokenModel, task: NgramTask, margin: float, seed: int) -> None:
        self.model, self.task, self.margin, self.seed = model, task, margin, seed
        self.missing: list[str] = []
        with torch.no_grad():
            self.divergence = Estimate(max(model.divergence(task).item(), 0.0), 0.0, "exact, over all contexts")
            self.accuracy = model.accuracy(task).item()
            self.logits = model.table_logits().numpy()
        self.uniform = uniform_divergence(task)
        self.possible = task.prior > 0
        self.deterministic = bool((np.count_nonzero(task.conditional[self.possible], axis=1) == 1).all())
        if self.features is None:
            self.missing.append(
                "capacity and rank of the features: known for one layer of attention without an MLP, of embedding "
                f"dimension 2 or more, on at most {MAX_RANK_CONTEXTS} contexts"
            )

    @cached_property
    def optimum(self) -> LowRankOptimum:
        """The best logits of the model's rank."""
        return optimal_low_rank(self.task, self.model.embed_dim)

    @cached_property
    def stored(self) -> int:
        """Contexts whose most likely token the model has most likely."""
        best = self.logits.argmax(axis=1)
        likeliest = self.task.conditional[np.arange(len(best)), best] == self.task.conditional.max(axis=1)
        return int((likeliest & self.possible).sum())

    @cached_property
    def capacity(self) -> int | None:
        """T₀ of the model's sizes over the contexts that occur."""
        model, counts = self.model, self.contexts
        if model.embed_dim < 2:
            return None
        if isinstance(model, AttentionOnlyTransformer):
            capacity = attention_only_capacity
        elif type(model) is CompressedAttentionTransformer and model.layers == 1 and model.head_dim > 1:
            capacity = compressed_attention_capacity
        else:
            return None
        sizes = model.heads, model.head_dim, model.embed_dim, model.vocab_size, model.context_length
        return capacity(*sizes, contexts=len(counts), last_tokens=len(np.unique(counts[:, -1])))

    @property
    def contexts(self) -> np.ndarray:
        """Those that occur, (T, S)."""
        return self.task.contexts[self.possible]

    @cached_property
    def features(self) -> int | None:
        """The rank of the attention features of all contexts that occur."""
        if self.capacity is None or len(self.contexts) > MAX_RANK_CONTEXTS:
            return None
        with torch.no_grad():
            z = self.model.attention_features(torch.as_tensor(self.contexts)).numpy()  # type: ignore[operator]
        return numerical_rank(unit_columns(z))

    def references(self) -> list[Reference]:
        best, rank = self.optimum, self.model.embed_dim
        certificate = f"certified from below ({best.certificate.method})"
        exact = best.certificate.method == "exact"
        found = Estimate(best.divergence, 0.0, "exact" if exact else "found by descent: an upper bound of the optimum")
        return [
            Reference("uniform answer", Estimate(self.uniform, 0.0, "exact")),
            Reference("best constant answer", Estimate(best_constant_divergence(self.task), 0.0, "exact")),
            Reference(f"optimum of rank {rank}", found),
            Reference(f"no model of rank {rank} is below", Estimate(best.lower_bound, 0.0, certificate)),
            Reference("Bayes risk", Estimate(0.0, 0.0, "exact: the law itself")),
        ]

    def findings(self) -> list[Finding]:
        task, total = self.task, int(self.possible.sum())
        centred = self.logits - self.logits.mean(1, keepdims=True)
        what = "contexts stored" if self.deterministic else "contexts with the likeliest token on top"
        found = [
            Finding(what, self.stored),
            Finding("contexts that occur", total),
            Finding("accuracy", self.accuracy),
            Finding("largest possible accuracy", float(task.prior @ task.conditional.max(axis=1))),
            Finding("cross-entropy in nats", self.divergence.value + conditional_entropy(task)),
            Finding("rank of the centred logits", numerical_rank(unit_columns(centred))),
        ]
        if self.capacity is not None:
            found.append(Finding("capacity", self.capacity))
        if self.features is not None:
            found.append(Finding("rank of the attention features", self.features))
        if hasattr(self.model, "output"):
            found.append(Finding("accuracy without the heads", self._without_heads()))
        return found

    def _without_heads(self) -> float:
        skip: Any = copy.deepcopy(self.model)
        with torch.no_grad():
            skip.output.zero_()
            return float(skip.accuracy(self.task))


def unit_columns(matrix: np.ndarray) -> np.ndarray:
    """Columns brought to length one, before their rank is counted; those of zeros stay."""
    lengths = np.linalg.norm(matrix, axis=0)
    scaled: np.ndarray = matrix / np.where(lengths > 0, lengths, 1.0)
    return scaled


def _claims(reading: _ModelReading) -> list[ModelClaim]:
    model, task, best = reading.model, reading.task, reading.optimum
    encoder = {"a sequence encoder": isinstance(model, SequenceEncoder)}
    attention = {"attention only": isinstance(model, AttentionOnlyTransformer)}
    known = {"one layer whose features have a known rank, in two dimensions or more": reading.features is not None}
    table = {"a look-up table": reading.deterministic}
    longer = {"contexts of two tokens or more": task.context_length > 1}
    single = {"contexts of one token": task.context_length == 1}
    everything = {"all contexts occur (some of them can have less rank)": bool(reading.possible.all())}
    uniform = {"all contexts equally likely": bool(np.ptp(task.prior) <= 1e-12 * task.prior.max())}
    plane = {"two dimensions or more": model.embed_dim > 1}
    n, d = task.vocab_size, model.embed_dim
    codimension = {f"N = d + 2, at most {MAX_CODIMENSION_VOCAB} tokens": d + 2 == n <= MAX_CODIMENSION_VOCAB}
    support = {"a law of full support": bool((task.conditional[reading.possible] > 0).all())}
    zero = {f"divergence 0 (below {REACHED:g})": reading.divergence.value < REACHED}

    def at_most_capacity(name: str, conditions: dict[str, bool]) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _rank(reading, "at most"))

    def generic(name: str, conditions: dict[str, bool]) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _rank(reading, "equals"))

    return [
        claim_on_model(
            "no-model-below-the-low-rank-bound",
            {"a bound that is proved": best.certificate.rigorous},
            lambda: _not_below(reading, best.lower_bound),
        ),
        claim_on_model("low-rank-optimum", encoder, lambda: _at_optimum(reading, best.divergence)),
        claim_on_model(
            "codimension-one",
            {**encoder, **codimension},
            lambda: _at_optimum(reading, codimension_one_optimum(task).divergence),
        ),
        claim_on_model("zero-divergence-rank", {**support, **zero}, lambda: _wide_enough(reading)),
        claim_on_model(
            "line-is-not-undercut",
            {**encoder, **table, "one dimension": d == 1},
            lambda: _not_below(reading, _line(task)),
        ),
        at_most_capacity("no-more-with-frozen-features", known),
        generic("feature-rank", {**attention, **longer, **known, **everything}),
        generic("context-length-one", {**attention, **single, **known, **everything}),
        claim_on_model("capacity-is-attained", {**attention, **table, **longer, **plane}, lambda: _full(reading)),
        claim_on_model(
            "trained-above-the-bound", {**attention, **table, **uniform, **longer, **plane}, lambda: _above(reading)
        ),
    ]


def _not_below(reading: _ModelReading, bound: float) -> Verdict:
    return held(
        "divergence",
        reading.divergence,
        "at least",
        bound,
        margin=ROUNDING,
        scale=reading.uniform or 1.0,
    )


def _at_optimum(reading: _ModelReading, best: float) -> Verdict:
    scale = reading.uniform - best or 1.0
    return held("divergence", reading.divergence, "equals", best, margin=reading.margin**2, scale=scale)


def _wide_enough(reading: _ModelReading) -> Verdict:
    rank = rank_for_zero_divergence(reading.task)
    width = Estimate(reading.model.embed_dim, 0.0, "exact")
    return held("dimension of a model with divergence 0", width, "at least", rank, margin=0.0, scale=1.0)


def _line(task: NgramTask) -> float:
    return one_dimensional_divergence(task.prior @ task.conditional)


def _rank(reading: _ModelReading, relation: Any) -> Verdict:
    assert reading.features is not None
    assert reading.capacity is not None
    rank = Estimate(reading.features, 0.0, "exact")
    return held("rank of the features", rank, relation, reading.capacity, margin=0.0, scale=1.0)


def _full(reading: _ModelReading) -> Verdict:
    assert reading.capacity is not None
    return BoundExists().judge([reading.stored], reading.capacity, **LEVELS)


def _above(reading: _ModelReading) -> Verdict:
    model: Any = reading.model
    bound = accuracy_lower_bound(model.heads, model.head_dim, model.embed_dim, model.vocab_size, model.context_length)
    accuracy = Estimate(reading.accuracy, 0.0, "exact")
    return held("accuracy", accuracy, "at least", bound, margin=ROUNDING, scale=1.0)


family.reads(Reader(models=(NextTokenModel,), build=build, report=report))
