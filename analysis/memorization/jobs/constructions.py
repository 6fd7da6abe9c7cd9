"""Transformers whose weights are constructed, not trained: the jobs of the capacity and accuracy claims."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from plumbline.analysis.jobs.job import TorchJob
from plumbline.theory.memorization import NgramTask, attention_only_capacity, distribution_bound, optimal_low_rank


@dataclass(frozen=True, kw_only=True)
class StoreContexts(TorchJob):
    """Witnesses: as many contexts as the capacity allows, drawn at random with random labels, stored exactly.

    Args:
        vocab_size, context_length, heads, head_dim, embed_dim: Sizes.
        architecture: ``"attention-only"`` (the paper) or ``"compressed"`` (its code).
        contexts: T; ``None`` is the capacity for d distinct last tokens.
        tables: Number of sets of contexts with labels.
        seed: Seed of contexts, labels and weights.
    """

    vocab_size: int
    context_length: int
    heads: int
    head_dim: int
    embed_dim: int
    architecture: Literal["attention-only", "compressed"] = "attention-only"
    contexts: int | None = None
    tables: int = 1
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return the number of contexts stored, accuracy, condition and margin of each table."""
        from plumbline.models.memorization import memorizing_transformer

        n, length = self.vocab_size, self.context_length
        count = self.contexts or attention_only_capacity(self.heads, self.head_dim, self.embed_dim, n, length)
        rng = np.random.default_rng(self.seed)
        stored = []
        for table in range(self.tables):
            chosen = contexts_with_last_tokens(rng, n, length, count, self.embed_dim)
            stored.append(
                memorizing_transformer(
                    chosen,
                    rng.integers(n, size=count),
                    heads=self.heads,
                    head_dim=self.head_dim,
                    embed_dim=self.embed_dim,
                    vocab_size=n,
                    architecture=self.architecture,
                    seed=self.seed + table,
                )
            )
        return {
            "stored": np.array([s.associations * (s.accuracy == 1.0) for s in stored]),
            "accuracies": np.array([s.accuracy for s in stored]),
            "conditions": np.array([s.condition for s in stored]),
            "margins": np.array([s.margin for s in stored]),
        }


def contexts_with_last_tokens(
    rng: np.random.Generator, vocab_size: int, context_length: int, count: int, last_tokens: int
) -> np.ndarray:
    """Distinct random contexts (T, S) that end in at least min(T, L, N) different tokens."""
    total = vocab_size**context_length
    needed = min(count, last_tokens, vocab_size)
    # A context's number modulo N is its last token: first one context of each of so many, then any others.
    first = rng.permutation(vocab_size)[:needed] + vocab_size * rng.integers(total // vocab_size, size=needed)
    rest = np.setdiff1d(np.arange(total), first)
    index = np.concatenate([first, rng.permutation(rest)[: count - needed]])
    return np.stack(np.unravel_index(index, (vocab_size,) * context_length), axis=1)


@dataclass(frozen=True, kw_only=True)
class ConstructedAccuracy(TorchJob):
    """Accuracies on many random look-up tables of transformers that store T_0 contexts of each.

    One set of random attention weights serves all tables: the readout that stores the labels of T_0 contexts is
    linear in them, E* Z_M⁺, and the answers elsewhere are whatever it gives there.

    Args:
        vocab_size, context_length, heads, head_dim, embed_dim: Sizes.
        batches, tables: Number of batches and of tables in each.
        seed: Seed of weights and tables.
    """

    vocab_size: int
    context_length: int
    heads: int
    head_dim: int
    embed_dim: int
    batches: int = 20
    tables: int = 1000
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return mean accuracies (batches,), and accuracies of tables: random, adversarial, and by a constant."""
        n, length = self.vocab_size, self.context_length
        stored, readout = self._readout()
        angles = 2 * np.pi * np.arange(n) / n
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        rng = np.random.default_rng(self.seed)
        means, singles = [], []
        for _ in range(self.batches):
            labels = rng.integers(n, size=(self.tables, n**length))
            states = np.swapaxes(circle[labels[:, stored]], 1, 2) @ readout
            answers = (circle @ states).argmax(1)
            accuracies = (answers == labels).mean(1)
            means.append(accuracies.mean())
            singles.append(accuracies)
        # The hardest table for these answers: right where stored, wrong everywhere else.
        hard = (answers + 1) % n
        hard[:, stored] = labels[:, stored]
        constant = np.array([np.bincount(row, minlength=n).max() / n**length for row in hard])
        return {
            "batch_means": np.array(means),
            "accuracies": np.concatenate(singles),
            "adversarial": np.maximum((answers == hard).mean(1), constant),
            "stored": len(stored),
        }

    def _readout(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices (T_0,) of contexts with independent features, and Z_M⁺ Z (T_0, N^S)."""
        from scipy.linalg import qr

        from plumbline.models.memorization.random_features import random_features

        n, length = self.vocab_size, self.context_length
        features = random_features(self.heads, self.head_dim, self.embed_dim, n, length, seed=self.seed)
        capacity = attention_only_capacity(self.heads, self.head_dim, self.embed_dim, n, length)
        stored = np.sort(qr(features, mode="r", pivoting=True)[1][:capacity])
        return stored, np.linalg.lstsq(features[:, stored], features, rcond=None)[0]


@dataclass(frozen=True, kw_only=True)
class StoreDistribution(TorchJob):
    """Transformers that equal the best sequence encoder of their width on as many contexts as they can store.

    Args:
        task: A law of full support.
        heads, head_dim, embed_dim: Sizes; the encoder has the rank d.
        tables: Number of laws, with seeds from ``task.seed`` up.
        seed: Seed of the weights.
    """

    task: NgramTask
    heads: int
    head_dim: int
    embed_dim: int
    tables: int = 1
    seed: int = 0

    def run(self) -> dict[str, Any]:
        """Return, for each law, logit error, divergences of transformer and encoder, and the bound."""
        import torch

        from plumbline.models.memorization import memorizing_transformer

        rows = []
        for table in range(self.tables):
            law = replace(self.task, seed=self.task.seed + table)
            encoder = optimal_low_rank(law, self.embed_dim, starts=4, max_iterations=200)
            assert encoder.factors is not None
            left, right = encoder.factors
            count = attention_only_capacity(
                self.heads, self.head_dim, self.embed_dim, law.vocab_size, law.context_length
            )
            rng = np.random.default_rng((self.seed, table))
            chosen = contexts_with_last_tokens(rng, law.vocab_size, law.context_length, count, self.embed_dim)
            stored = np.ravel_multi_index(tuple(chosen.T), (law.vocab_size,) * law.context_length)
            witness = memorizing_transformer(
                chosen,
                targets=(left[stored], right),
                heads=self.heads,
                head_dim=self.head_dim,
                embed_dim=self.embed_dim,
                seed=self.seed + table,
            )
            with torch.no_grad():
                logits = witness.model.table_logits().numpy()
            bound = distribution_bound(law, (left, right), stored, model_logits=logits)
            rows.append((bound.stored_oscillation, bound.divergence, bound.encoder_divergence, bound.bound))
        names = ("oscillations", "divergences", "encoder_divergences", "bounds")
        return dict(zip(names, np.array(rows).T, strict=True))
