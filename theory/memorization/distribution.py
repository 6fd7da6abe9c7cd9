"""Next-token distributions: what a transformer that equals an encoder on some contexts loses on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.entropy import check_logits, row_divergences
from plumbline.theory.memorization.task import table_and_prior

STORED_TOLERANCE = 1e-6
"""Largest oscillation on a context called stored, relative to the encoder's largest logit."""


@dataclass(frozen=True)
class DistributionBound:
    """Divergence of a model that stores an encoder's logits on some contexts.

    Attributes:
        bound: Upper bound of the model's divergence.
        encoder_divergence: Divergence of the encoder.
        penalty: The sum of the oscillations, weighted by the prior; the bound is the sum of the two.
        divergence: Divergence of the model itself.
        unstored_mass: Prior mass of the contexts that are not stored.
        stored_oscillation: Largest oscillation on the stored contexts; rounding where they are stored exactly.
    """

    bound: float
    encoder_divergence: float
    penalty: float
    divergence: float
    unstored_mass: float
    stored_oscillation: float


def logit_oscillation(first: Any, second: Any) -> np.ndarray:
    r"""Return how far two models are apart in each context: the range of the difference of their logits.

    .. math:: osc(a - b) = \max_i (a_i - b_i) - \min_i (a_i - b_i) ≥ |KL(p \| softmax\, a) - KL(p \| softmax\, b)|

    for every distribution p: log Σ exp and the mean of the logits both move within [min, max]. It is 0 exactly
    where the two models agree, since softmax ignores constants.

    Conditions: none.

    Args:
        first: Logits (T, N).
        second: Logits (T, N).

    Returns:
        Oscillations (T,), in nats.

    Raises:
        ValueError: on other shapes or entries that are not finite.

    Source:
        Derived here. The constant 1 is best possible: a = (0, s), b = 0, p = (1, 0), s → ∞.

    Example:
        >>> logit_oscillation([[1.0, 0.0, 2.0]], [[0.0, 0.0, 0.0]]).tolist()
        [2.0]
    """
    a = check_logits("first", first, (None, None))
    return np.ptp(a - check_logits("second", second, a.shape), axis=1)


def distribution_bound(
    task_or_table: Any,
    encoder: Any,
    stored: Any,
    *,
    prior: Any = None,
    model_logits: Any = None,
    features: Any = None,
) -> DistributionBound:
    r"""Return an upper bound of the divergence of a transformer that stores an encoder's logits on a set of contexts.

    .. math:: \sum_t ρ_t KL(P_t \| T_t) ≤ \sum_t ρ_t KL(P_t \| f_t) + \sum_{t ∉ M} ρ_t\, osc(f_t - T_t)

    with f = E Wᵀ a sequence encoder and T the transformer, equal to f on M. Either the transformer's logits are
    given, or its features Z: the readout is then the least-squares one, T = Z Z_M⁺ E_M Wᵀ. The oscillations on M are
    added as well: they are rounding where M is stored exactly, and the bound is rigorous where it is not.

    Conditions: such a transformer exists for almost all encoders where M can be stored (`independent_contexts`), and
    for all as a limit. For M all contexts the divergences are equal, without a further error γ.

    Status: **derived** here, in place of the published theorem KL ≤ OPT + C ε ‖W E‖ + γ. Its constant C differs
    between text and appendix, its γ and the limit of infinite weights are not needed, and the inverse in C
    exists where the features of M are independent, not because a factor is orthogonal.

    Args:
        task_or_table: An `NgramTask`, or the conditional table P (T, N).
        encoder: The encoder's logits f (T, N), or the pair (E, W) of its factors (T, d) and (N, d).
        stored: M, indices of the stored contexts.
        prior: ρ (T,) beside a table; ``None`` is uniform.
        model_logits: The transformer's logits (T, N).
        features: Z (T, R), the features of each context, in place of the transformer's logits.

    Returns:
        `DistributionBound`.

    Raises:
        ValueError: on shapes that do not fit, on both or none of logits and features, or if the model does not
            equal the encoder on M.

    Source:
        Derived here; replaces Theorem 1 of Dana, Pydi, Chevaleyre 2024 (2411.10115).

    Example:
        >>> encoder = [[1.0, 0.0], [0.0, 1.0]]
        >>> result = distribution_bound([[0.7, 0.3], [0.4, 0.6]], encoder, [0], features=[[1.0], [0.5]])
        >>> round(result.divergence, 6), round(result.bound, 6)
        (0.051731, 0.771324)
    """
    table, weights = table_and_prior(task_or_table, prior)
    f, targets, readout = _encoder(encoder, table.shape)
    chosen = _stored(stored, len(table))
    if (model_logits is None) == (features is None):
        raise ValueError("model_logits must be given if and only if features are not, got both or none of them")
    if model_logits is not None:
        model = check_logits("model_logits", model_logits, table.shape)
    else:
        z = checks.array("features", features, (len(table), None))
        model = z @ (np.linalg.pinv(z[chosen]) @ targets[chosen]) @ readout
    oscillations = logit_oscillation(f, model)
    error = float(oscillations[chosen].max(initial=0.0))
    if error > STORED_TOLERANCE * max(1.0, float(np.abs(f).max())):
        raise ValueError(
            "stored must hold contexts on which the model equals the encoder, "
            f"got an oscillation of {error:.3g} on context {chosen[oscillations[chosen].argmax()]}"
        )
    penalty = float(weights @ oscillations)
    encoder_divergence = float(weights @ row_divergences(table, f))
    unstored = np.ones(len(table), dtype=bool)
    unstored[chosen] = False
    return DistributionBound(
        bound=encoder_divergence + penalty,
        encoder_divergence=encoder_divergence,
        penalty=penalty,
        divergence=float(weights @ row_divergences(table, model)),
        unstored_mass=float(weights[unstored].sum()),
        stored_oscillation=error,
    )


def _encoder(encoder: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f (T, N), and factors with f = targets @ readout."""
    if isinstance(encoder, tuple) and len(encoder) == 2:
        vectors = checks.array("encoder", encoder[0], (shape[0], None))
        unembedding = checks.array("encoder", encoder[1], (shape[1], vectors.shape[1]))
        return vectors @ unembedding.T, vectors, unembedding.T
    f = check_logits("encoder", encoder, shape)
    return f, f, np.eye(shape[1])


def _stored(stored: Any, count: int) -> np.ndarray:
    if np.size(stored) == 0:
        return np.zeros(0, dtype=np.int64)
    chosen = checks.tokens("stored", stored, (None,), count)
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"stored must hold each context once, got {chosen.tolist()}")
    return chosen
