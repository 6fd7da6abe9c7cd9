"""Weights that store associations exactly: the witness of the capacity of attention-only transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from plumbline.models.memorization.compressed import CompressedAttentionTransformer
from plumbline.models.memorization.transformers import AttentionOnlyTransformer
from plumbline.theory import checks
from plumbline.theory.memorization import generic_rank

Transformer = AttentionOnlyTransformer | CompressedAttentionTransformer
ARCHITECTURES = ("attention-only", "compressed")
SHARPNESS = (1.0, 300.0)
"""Range of the standard deviations of the heads' attention scores: variety makes the features well conditioned."""
GOOD_ERROR, BAD_ERROR = 1e-6, 1e-3
"""Error of the logits, relative to the largest: below the first no better draw is looked for; none above the second
is given out."""
EXACT_ENTRIES = 10**6
"""Features of at most this many entries are ranked in exact arithmetic where no draw was accurate."""
BLOCK = 2**22
"""Contexts are evaluated in blocks of at most this many attended values (32 MiB)."""


@dataclass(frozen=True)
class Memorized:
    """A transformer with stored associations, and how well it stores them.

    Attributes:
        model: The transformer.
        associations: Number T of distinct contexts stored.
        capacity: H d_h + min(d, L), see `memorizing_transformer`.
        condition: Largest over smallest singular value of the feature matrix that was solved for.
        residual: Largest error of the linear system, relative to its right side.
        logit_error: Largest difference between the logits of the model and those asked for.
        margin: Smallest lead of the right token's logit over all others, on the stored contexts.
        accuracy: Fraction of the stored contexts whose right token has the largest logit (the first of several).
    """

    model: Transformer
    associations: int
    capacity: int
    condition: float
    residual: float
    logit_error: float
    margin: float
    accuracy: float


def memorizing_transformer(
    contexts: Any,
    labels: Any = None,
    *,
    heads: int,
    head_dim: int,
    embed_dim: int,
    targets: tuple[Any, Any] | None = None,
    vocab_size: int | None = None,
    architecture: Literal["attention-only", "compressed"] = "attention-only",
    seed: int = 0,
    draws: int = 8,
) -> Memorized:
    r"""Build a one-layer transformer that stores given associations exactly, with ordinary softmax attention.

    .. math:: [M | W_O] = E^* Z^+, \qquad Z = [x_S(t); W_V^h \sum_s a_{hs} x_s(t)]_t

    for random embeddings, queries, keys and values, whose features Z have rank T. The change of basis x → M x makes
    the skip connection equal to M x_S; no limit of the temperature is taken. Labels are stored as points of several
    circles, u_i = (cos 2πfi/N, sin 2πfi/N) for f = 1, 2, …; where compressed heads can write one number only, on a
    parabola, u_i = (i, −i²/2), of which the skip connection supplies the second coordinate.

    Conditions: S ≥ 2 and T ≤ H d_h + min(d, L), for T distinct contexts with L distinct last tokens and d_h counted
    as d at most. That is enough in general position, such as for contexts drawn at random among many; where
    contexts have a structure `generic_rank` must be T: with one head (1,2,0), (1,0,0), (2,2,0),
    (2,0,0) have rank 3 at most, since a head adds exponentials that belong to a position and token each. The
    transformer is re-checked by its forward pass, in float64.

    Args:
        contexts: Integers 0, …, N − 1, (T, S). A context may be repeated with the same association.
        labels: The next token of each context, (T,).
        heads: Number H ≥ 0 of heads.
        head_dim: d_h ≥ 1.
        embed_dim: d ≥ 2 for labels, d ≥ 1 for targets.
        targets: Instead of labels (E, W): the states (T, d') of a sequence encoder on the contexts and its
            unembedding (N, d') with d' ≤ d. The transformer has the logits E W^T there.
        vocab_size: N; ``None`` is one more than the largest token, or the size of W.
        architecture: ``"attention-only"``, the paper's, or ``"compressed"``, that of its code.
        seed: Seed of the random weights, from 0 up.
        draws: Largest number of draws, from 1 up: the first with accurate logits is taken, or else the most accurate.

    Raises:
        ValueError: if T exceeds the capacity, contexts are repeated with different associations, S = 1, tokens are
            out of range, compressed heads cannot write targets of that rank, or the features are not of rank T: for
            no weights, or not in float64, so with many heads of dimension 1, which differ by little more than their
            sharpness.

    Source:
        Derived here, sharpening Theorem 1 of Dana, Pydi, Chevaleyre 2024 (2411.10115), whose capacity H d_h + d
        needs d distinct last tokens.

    Example:
        >>> contexts = [(i, j) for i in range(4) for j in range(3)]
        >>> stored = memorizing_transformer(contexts, [0, 3, 1] * 4, heads=5, head_dim=2, embed_dim=2)
        >>> stored.associations, stored.capacity, stored.accuracy
        (12, 12, 1.0)
    """
    architecture = checks.one_of("architecture", architecture, ARCHITECTURES)
    heads = checks.integer("heads", heads, at_least=0)
    head_dim = checks.integer("head_dim", head_dim, at_least=1)
    embed_dim = checks.integer("embed_dim", embed_dim, at_least=1)
    seed = checks.integer("seed", seed, at_least=0)
    draws = checks.integer("draws", draws, at_least=1)
    if (labels is None) == (targets is None):
        raise ValueError("labels or targets must be given, and not both")
    if vocab_size is not None:
        vocab_size = checks.integer("vocab_size", vocab_size, at_least=2)
    tokens = checks.tokens("contexts", contexts, (None, None), vocab_size or 2**53)
    if tokens.shape[1] < 2:
        raise ValueError(
            f"contexts must have at least two tokens, got {tokens.shape[1]}: with one, every head returns the same"
        )
    written = embed_dim if architecture == "attention-only" else min(head_dim, embed_dim)
    if labels is not None:
        answers = checks.tokens("labels", labels, (len(tokens),), vocab_size or 2**53)
        vocab_size = vocab_size or max(2, 1 + int(max(tokens.max(), answers.max())))
        if embed_dim < 2:
            raise ValueError("embed_dim must be at least 2 for labels, got 1: on a line two tokens only can be largest")
        encoding, unembedding = (_circles if written > 1 else _parabola)(vocab_size, written)
        encoding = encoding[answers]
    else:
        encoding, unembedding = _encoder(targets, len(tokens), embed_dim)
        if vocab_size not in (None, len(unembedding)):
            raise ValueError(f"targets must have an unembedding of {vocab_size} tokens, got {len(unembedding)}")
        vocab_size = len(unembedding)
        tokens = checks.tokens("contexts", tokens, tokens.shape, vocab_size)
    tokens, encoding = _distinct(tokens, encoding, "labels" if targets is None else "targets")
    last_tokens = len(np.unique(tokens[:, -1]))
    capacity = heads * min(head_dim, embed_dim) + min(embed_dim, last_tokens)
    if len(tokens) > capacity:
        raise ValueError(
            f"contexts must be at most {capacity} distinct ones, the capacity H min(d_h, d) + min(d, last tokens) = "
            f"{heads}*{min(head_dim, embed_dim)} + {min(embed_dim, last_tokens)}, got {len(tokens)}"
        )
    on_parabola = labels is not None and written == 1
    if on_parabola:
        wanted, readout = torch.as_tensor(encoding[:, :1].T), torch.as_tensor(unembedding)
    else:
        wanted, readout = _factors(encoding, unembedding)
    if len(wanted) > written:
        raise ValueError(f"targets must have rank at most {written}, all that the heads write, got {len(wanted)}")
    logits = torch.as_tensor(encoding @ unembedding.T)

    sizes_of_model = (vocab_size, tokens.shape[1], heads, head_dim, embed_dim)
    contexts_tensor = torch.as_tensor(tokens)
    best: Memorized | None = None
    for draw in range(draws):
        model = _random_model(architecture, sizes_of_model, seed, draw)
        if on_parabola:
            with torch.no_grad():
                model.embedding[:, 0] = 1
        features = _by_blocks(model, "attention_features", contexts_tensor)
        solved = _solve(features, wanted)
        if solved is None:
            continue
        weights, condition, residual = solved
        if on_parabola:  # the constant is read from the skip connection
            constant = torch.zeros_like(weights)
            constant[:, :embed_dim] = torch.linalg.pinv(features[:, :embed_dim]).sum(1)
            weights = torch.cat([weights, constant])
        _install(model, weights, readout, last_tokens)
        got = _by_blocks(model, "forward", contexts_tensor)
        right = logits.argmax(1, keepdim=True)
        lead = got.gather(1, right) - got.scatter(1, right, -math.inf).amax(1, keepdim=True)
        report = Memorized(
            model,
            associations=len(tokens),
            capacity=capacity,
            condition=condition,
            residual=residual,
            logit_error=float((got - logits).abs().max()),
            margin=float(lead.min()),
            accuracy=float((got.argmax(1) == right[:, 0]).double().mean()),
        )
        if best is None or report.logit_error < best.logit_error:
            best = report
        if report.logit_error <= GOOD_ERROR * float(logits.abs().max()):
            break
    if (
        best is None
        or not best.logit_error <= BAD_ERROR * float(logits.abs().max())
        or (labels is not None and not best.margin > 0)
    ):
        raise ValueError(_why_dependent(tokens, sizes_of_model, architecture, draws))
    return best


def _why_dependent(
    tokens: np.ndarray, sizes_of_model: tuple[int, int, int, int, int], architecture: str, draws: int
) -> str:
    """Whether no weights store the contexts, or these draws in float64 did not."""
    vocab_size, length, heads, head_dim, embed_dim = sizes_of_model
    if len(tokens) * (embed_dim + heads * head_dim) <= EXACT_ENTRIES:
        kind: Any = architecture.replace("-", "_")
        rank = generic_rank(heads, head_dim, embed_dim, vocab_size, length, tokens, architecture=kind).rank
        if rank < len(tokens):
            return (
                f"contexts must have features of rank {len(tokens)}, got {rank} for almost all weights (exact "
                "arithmetic, generic_rank): their tokens repeat in a pattern that more heads break"
            )
    return (
        f"contexts must have features of rank {len(tokens)} in float64, got less in {draws} draws: too many heads "
        "for the few tokens, positions or dimensions there are"
    )


def _circles(vocab_size: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """States and unembedding, both (N, dim) at most: points on circles of frequency 1, 2, … in dim // 2 planes."""
    angles = 2 * np.pi * np.outer(np.arange(vocab_size), np.arange(1, dim // 2 + 1)) / vocab_size
    points = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return points, points


def _parabola(vocab_size: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """States (y_i, 1) and unembedding (y_i, −y_i²/2): the logits −(y_i − y_j)²/2 + y_j²/2 need one number written."""
    y = np.arange(vocab_size) - (vocab_size - 1) / 2
    return np.stack([y, np.ones(vocab_size)], axis=1), np.stack([y, -(y**2) / 2], axis=1)


def _factors(encoding: np.ndarray, unembedding: np.ndarray) -> tuple[Tensor, Tensor]:
    """E' (rank, T) and W' (N, rank) with the same logits: what is written has full rank, and no more than it needs."""
    left, sizes, basis = np.linalg.svd(encoding, full_matrices=False)
    rank = max(1, int((sizes > sizes[0] * len(encoding) * np.finfo(float).eps).sum()))
    scale = math.sqrt(len(encoding))
    readout = unembedding @ (basis[:rank].T * sizes[:rank]) / scale
    return torch.as_tensor(left[:, :rank].T * scale), torch.as_tensor(readout)


def _encoder(targets: Any, count: int, embed_dim: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(targets, tuple | list) or len(targets) != 2:
        raise ValueError(f"targets must be a pair (states, unembedding), got {type(targets).__name__}")
    encoding = checks.array("targets[0]", targets[0], (count, None))
    unembedding = checks.array("targets[1]", targets[1], (None, encoding.shape[1]))
    if encoding.shape[1] > embed_dim:
        raise ValueError(f"targets must have states of at most {embed_dim} numbers, got {encoding.shape[1]}")
    if len(unembedding) < 2:
        raise ValueError("targets must have an unembedding of at least 2 tokens, got 1")
    return encoding, unembedding


def _distinct(tokens: np.ndarray, encoding: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The distinct contexts and what they are to be mapped to."""
    distinct, first, group = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
    different = (encoding != encoding[first][group.reshape(-1)]).any(1)
    if different.any():
        where = tokens[different.argmax()].tolist()
        raise ValueError(f"{name} must be the same where a context is repeated, got different ones for {where}")
    return distinct, encoding[first]


def _random_model(architecture: str, sizes: tuple[int, int, int, int, int], seed: int, draw: int) -> Any:
    """A model with normal weights; its heads attend from almost evenly to almost exclusively."""
    state = np.random.SeedSequence((seed, draw)).generate_state(1, np.uint32)
    generator = torch.Generator().manual_seed(int(state[0]))
    paper = architecture == "attention-only"
    model = (AttentionOnlyTransformer if paper else CompressedAttentionTransformer)(*sizes, init_scale=0.0)
    low, high = (math.log(sharpness) for sharpness in SHARPNESS)
    sharpness = (low + (high - low) * torch.rand(model.heads, 1, 1, generator=generator, dtype=torch.float64)).exp()
    # Inputs have entries of variance 2, and so have queries and keys: their product has variance 4 d_h.
    sharpness /= 2 * math.sqrt(model.head_dim) if paper else 2
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draws = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name in ("query", "key", "value", "compress"):
                draws /= math.sqrt(parameter.shape[-1])
            parameter.copy_(sharpness * draws if name == "query" else draws)
    return model


def _by_blocks(model: Transformer, method: str, contexts: Tensor) -> Tensor:
    """A method of the model on many contexts, without gradient and within a bounded memory."""
    step = max(1, BLOCK // (max(1, model.heads) * contexts.shape[1] * model.head_dim))
    with torch.no_grad():
        return torch.cat([getattr(model, method)(part) for part in contexts.split(step)])


def _solve(features: Tensor, wanted: Tensor) -> tuple[Tensor, float, float] | None:
    """The smallest A with A Zᵀ = wanted, the condition of Z (T, F) and the relative residual; None if rank Z < T."""
    if len(features) > features.shape[1]:
        return None
    q, r = torch.linalg.qr(features.mT)
    singular = torch.linalg.svdvals(r)
    condition = float(singular[0] / singular[-1])
    if not condition < 1 / (len(features) * torch.finfo(torch.float64).eps):
        return None
    weights, rest = torch.zeros(len(wanted), features.shape[1], dtype=torch.float64), wanted
    for _ in range(2):  # the second round corrects the first
        weights = weights + torch.linalg.solve_triangular(r, rest, upper=True, left=False) @ q.mT
        rest = wanted - weights @ features.mT
    return weights, condition, float(rest.abs().max() / wanted.abs().max())


def _install(model: Any, weights: Tensor, readout: Tensor, last_tokens: int) -> None:
    """Change the basis so that the skip connection writes its part of the solution, and the heads theirs."""
    paper = isinstance(model, AttentionOnlyTransformer)
    d, rank = model.embed_dim, len(weights)
    skip = torch.zeros(d, d, dtype=torch.float64)
    skip[:rank] = weights[:, :d]
    # What is missing to an invertible M is free: rows that the unembedding ignores, columns no stored context has.
    left, sizes, right = torch.linalg.svd(skip)
    full = min(rank, d, last_tokens)
    sizes[full:] = sizes[:full].log().mean().exp()
    change = left @ (sizes.unsqueeze(1) * right)
    heads = torch.zeros(model.heads, d, model.head_dim, dtype=torch.float64)
    heads[:, :rank] = weights[:, d:].unflatten(1, (model.heads, model.head_dim)).transpose(0, 1)

    def back(weight: Tensor) -> Tensor:
        return torch.linalg.solve(change, weight, left=False)

    with torch.no_grad():
        model.embedding.copy_(model.embedding @ change.mT)
        model.unembedding.zero_()
        model.unembedding[:, :rank] = readout
        if paper or model.compress is None:
            model.position.copy_(model.position @ change.mT)
            for weight in (model.query, model.key, model.value):
                weight.copy_(back(weight))
            model.output.copy_(heads if paper else heads.unsqueeze(0))
        else:
            model.compress.copy_(back(model.compress))
            model.decompress.copy_(torch.eye(d, model.head_dim, dtype=torch.float64))
            size = min(d, model.head_dim)
            model.output.zero_()
            model.output[0, :, :size] = heads[:, :size]
