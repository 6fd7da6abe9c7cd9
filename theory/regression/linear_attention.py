"""The risk of a linear transformer with given weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.estimate import Estimate
from plumbline.theory.regression.gd_plus_plus import MAX_LAYERS, residual_polynomial
from plumbline.theory.regression.one_step import one_step_risk, square_root
from plumbline.theory.regression.spectrum import spectral_quadrature
from plumbline.theory.regression.task import RegressionTask, check_task

# Blocks this close to a multiple of the identity (relative) are taken as scalar: the risk is then exact.
SCALAR_TOLERANCE = 1e-13


def linear_transformer_risk(
    value: Any, key_query: Any, task: RegressionTask, *, draws: int = 20_000, seed: int = 0
) -> Estimate:
    r"""Return the risk of the linear transformer with the given weights on the given task.

    .. math:: Z_{l+1} = Z_l + \tfrac1n ∑_h P_{lh} Z_l M (Z_l^T Q_{lh} Z_l), \quad
              \text{prediction} = -[Z_L]_{d+1, n+1}

    Exact for one layer (any weights), and for Gaussian covariates and scalar blocks (multiples of the identity
    in the whitened frame) up to `MAX_LAYERS` layers. Otherwise everything but the Gram matrix of the prompt is
    integrated out exactly and the rest is a mean over draws; for Gaussian covariates the nearest scalar network,
    whose risk is exact, serves as control variate, so that nearly scalar weights get a nearly exact risk.

    Args:
        value: P. Either full (…, d+1, d+1), or the block B of P = [[B, 0], [0, 1]], (…, d, d); ``None`` is a zero
            block. Leading axes: none (one layer), (layers,), or (layers, heads).
        key_query: Q, likewise; (…, d, d) is the block of Q = [[K, 0], [0, 0]]. K = −A is a step with
            preconditioner A.
        task: The data distribution. Full weights use that w and the noise are Gaussian.
        draws: Number of draws where no closed form exists.
        seed: Seed of those draws.

    Returns:
        `Estimate`; its error is one standard error where draws were needed, and 0 where the value is exact.

    Raises:
        ValueError: on shapes that do not fit the task or each other, or non-finite weights.

    Source:
        One layer: derived here (spanning Ahn et al. 2023, 2306.00297, Theorem 1). Several layers: Ahn et al. 2023
        for the recursion, the conditional expectation is derived here.

    Example:
        >>> import numpy as np
        >>> round(linear_transformer_risk(None, -10 / 13 * np.eye(5), RegressionTask(5, 20)).value, 12)
        1.153846153846
    """
    check_task(task)
    checks.integer("draws", draws, at_least=2)
    checks.integer("seed", seed, at_least=0)
    d = task.dim
    q = _stack("key_query", key_query, d)
    full = q.shape[-1] == d + 1
    if value is None:
        if full:
            raise ValueError("value must be given with full (d+1) × (d+1) key_query weights, got None")
        p = np.zeros_like(q)
    else:
        p = _stack("value", value, d)
    if p.shape != q.shape:
        raise ValueError(f"value must have the same shape as key_query, got {p.shape} and {q.shape}")
    with checks.float_range("value and key_query", (value, key_query)):
        if len(q) == 1:
            risk = _one_layer_full(p[0], q[0], task) if full else one_step_risk(task, -q[0].sum(0))
            estimate = Estimate(risk, 0.0, "exact")
        elif full:
            estimate = _mean(_conditional_full(p, q, task, draws, np.random.default_rng(seed)))
        else:
            estimate = _several_layers(p, q, task, draws, np.random.default_rng(seed))
    return estimate


def _stack(name: str, weights: Any, d: int) -> np.ndarray:
    """Validate weights and return them as (layers, heads, size, size), size d or d + 1."""
    try:
        shape = np.shape(weights)
    except ValueError:  # ragged lists
        shape = ()
    if len(shape) not in (2, 3, 4) or shape[-1] not in (d, d + 1) or shape[-2] != shape[-1]:
        raise ValueError(
            f"{name} must have shape (…, {d}, {d}) or (…, {d + 1}, {d + 1}) with leading axes (), (layers,) or "
            f"(layers, heads), got shape {shape}"
        )
    result = checks.array(name, weights, shape)
    if 0 in shape:
        raise ValueError(f"{name} must have at least one layer and head, got shape {shape}")
    return result.reshape(*((1, 1, *shape), (shape[0], 1, *shape[1:]), shape)[len(shape) - 2])


def _one_layer_full(p: np.ndarray, q: np.ndarray, task: RegressionTask) -> float:
    """Exact risk of one layer with full weights (heads, d+1, d+1).

    The prediction is −u^T x, u = Σ_h Q_h^T G p_h with p_h the last row of P_h. Its part odd in (w, ε) is that of the
    one-step predictor A_eff = −Σ (p2 A + p1 a^T); the even part e is uncorrelated with the target and adds
    E e^T Σ e.
    """
    d, n = task.dim, task.context_length
    k1, k2 = task.radial_moments
    s_matrix, psi, noise = task.covariance_matrix, task.weight_covariance_matrix, task.noise_variance
    p1, p2 = p[:, d, :d], p[:, d, d]
    block, row = q[:, :d, :d], q[:, d, :d]
    effective = -(np.einsum("h,hij->ij", p2, block) + np.einsum("hi,hj->ij", p1, row))

    def w_m_w(m: np.ndarray) -> np.ndarray:
        """E W M W."""
        sms = s_matrix @ m @ s_matrix
        spread = sms + s_matrix @ m.T @ s_matrix + np.sum(m * s_matrix) * s_matrix
        return (k2 * spread + (n - 1) * k1**2 * sms) / n

    def trace_w(m: np.ndarray) -> np.ndarray:
        """E tr(M W) W, for symmetric M."""
        plain = np.sum(m * s_matrix) * s_matrix
        return (k2 * (plain + 2 * s_matrix @ m @ s_matrix) + (n - 1) * k1**2 * plain) / n

    mean_w = k1 * s_matrix
    signal = float(np.sum(psi * mean_w))
    s_w = trace_w(psi) + noise * mean_w
    s_squared = (
        float(np.sum(psi * trace_w(psi))) + 2 * noise * signal + noise**2
        + 2 * float(np.sum(psi * w_m_w(psi))) + 4 * noise / n * signal + 2 * noise**2 / n
    )  # fmt: skip
    c = np.einsum("h,hi->i", p2, row)
    even = s_squared * c @ mean_w @ c
    for h in range(len(p)):
        even += 2 * c @ mean_w @ block[h].T @ s_w @ p1[h]
        for g in range(len(p)):
            even += p1[h] @ w_m_w(block[h] @ mean_w @ block[g].T) @ p1[g]
    return one_step_risk(task, effective) + float(even)


def _several_layers(
    value: np.ndarray, key_query: np.ndarray, task: RegressionTask, draws: int, rng: np.random.Generator
) -> Estimate:
    """Sparse weights: conditional risk given W, with the nearest scalar network as control variate."""
    if task.covariate_law != "gaussian" or len(key_query) > MAX_LAYERS:
        wisharts = sample_wisharts(task, draws, rng)
        return _mean(_conditional_risk(value, key_query, wisharts, task))
    root = square_root(task.covariance_matrix)
    inverse = np.linalg.inv(root)
    a, b, distance = _nearest_scalars(inverse @ value @ root, root @ key_query @ root)
    exact = _scalar_risk(a, b, task)
    if distance <= SCALAR_TOLERANCE:
        return Estimate(exact, 0.0, "exact")
    near_q = -np.multiply.outer(a, inverse @ inverse)[:, None]
    near_p = np.multiply.outer(b, np.eye(task.dim))[:, None]
    wisharts = sample_wisharts(task, draws, rng)
    difference = _conditional_risk(value, key_query, wisharts, task) - _conditional_risk(near_p, near_q, wisharts, task)
    mean = _mean(difference)
    return Estimate(exact + mean.value, mean.error, f"nearest scalar network exact, difference: {mean.method}")


def _nearest_scalars(value: np.ndarray, key_query: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Scalar layers (a, b) nearest to whitened blocks, and the relative distance of the blocks from them."""
    d = key_query.shape[-1]
    a = -np.trace(key_query.sum(1), axis1=1, axis2=2) / d
    product = -np.einsum("lhij,lhji->l", value, key_query) / d  # a b
    with np.errstate(divide="ignore", invalid="ignore"):
        b = np.where(a != 0, product / a, 0.0)
    eye = np.eye(d)
    off = np.linalg.norm(key_query.sum(1) + a[:, None, None] * eye)
    if key_query.shape[1] > 1:  # several heads: scalar only if each head is
        off += np.linalg.norm(key_query - np.trace(key_query, axis1=2, axis2=3)[..., None, None] / d * eye)
        off += np.linalg.norm(value - np.trace(value, axis1=2, axis2=3)[..., None, None] / d * eye)
        # Heads may cancel in Σ K and not in Σ B K, which no scalar layer does.
        off += np.linalg.norm(np.where(a == 0, product, 0.0))
    else:
        off += np.linalg.norm(value[:-1, 0] - b[:-1, None, None] * eye)
    return a, b, float(off) / max(float(np.linalg.norm(a)), 1e-300)


def _scalar_risk(a: np.ndarray, b: np.ndarray, task: RegressionTask) -> float:
    """Exact risk of scalar layers, with any Ψ and label noise: tr(ΨΣ) ∫ P² dμ + d (σ²/n) ∫ (1−P)²/t dμ."""
    layers = len(a)
    degree = layers if not b[:-1].any() else (3**layers - 1) // 2
    rule = spectral_quadrature(degree + 1, task.dim, task.context_length)
    p = residual_polynomial(a, b[:-1], rule.nodes)
    spread = task.dim * task.noise_variance / task.context_length * (1 - p) ** 2 / rule.nodes
    return float(rule.weights @ (task.signal * p**2 + spread))


def _conditional_risk(
    value: np.ndarray, key_query: np.ndarray, wisharts: np.ndarray, task: RegressionTask
) -> np.ndarray:
    """Risk given W (draws, d, d), with query, weight vector and label noise integrated out."""
    eye = np.eye(task.dim)
    d_matrix = np.zeros_like(wisharts)
    s = np.broadcast_to(eye, wisharts.shape)
    for layer in range(len(key_query)):
        k = key_query[layer].sum(0)
        s_t = np.swapaxes(s, -1, -2)
        new = d_matrix + (eye + d_matrix @ wisharts) @ s_t @ k @ s
        w_layer = s @ wisharts @ s_t
        s = s + sum(b @ w_layer @ q for b, q in zip(value[layer], key_query[layer], strict=True)) @ s
        d_matrix = new
    c = eye + wisharts @ d_matrix
    sigma, psi = task.second_moment, task.weight_covariance_matrix
    risk = np.einsum("ij,bjk,kl,bil->b", psi, c, sigma, c, optimize=True)
    if task.noise_variance:
        noise = np.einsum("bij,bjk,kl,bil->b", wisharts, d_matrix, sigma, d_matrix, optimize=True)
        risk = risk + task.noise_variance / task.context_length * noise
    return risk


def _conditional_full(
    p: np.ndarray, q: np.ndarray, task: RegressionTask, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Risk given prompt and weight vector, with the query integrated out (full weights, several layers)."""
    d, n = task.dim, task.context_length
    x = _covariates(task, draws, rng)
    w = rng.normal(size=(draws, d)) @ square_root(task.weight_covariance_matrix)
    y = np.einsum("bni,bi->bn", x, w) + np.sqrt(task.noise_variance) * rng.normal(size=(draws, n))
    z = np.concatenate([x, y[..., None]], axis=-1)
    gram = np.swapaxes(z, -1, -2) @ z / n
    row = np.broadcast_to(np.eye(d + 1), gram.shape)
    for layer in range(len(q)):
        t = np.eye(d + 1) + sum(a @ gram @ b for a, b in zip(p[layer], q[layer], strict=True))
        gram = t @ gram @ np.swapaxes(t, -1, -2)
        row = t @ row
    miss = -row[:, d, :d] - w
    return np.einsum("bi,ij,bj->b", miss, task.second_moment, miss)


def _covariates(task: RegressionTask, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Covariates (draws, n, d) of the task's law."""
    d, n = task.dim, task.context_length
    z = rng.normal(size=(draws, n, d))
    if task.covariate_law != "gaussian":
        z /= np.linalg.norm(z, axis=-1, keepdims=True)
    if task.covariate_law == "gamma":
        assert task.gamma_shape is not None
        scale = np.sqrt(10 / task.gamma_shape)
        z *= np.sqrt(rng.gamma(task.gamma_shape, scale, size=(draws, n, 1)))
    return z @ square_root(task.covariance_matrix)


def sample_wisharts(task: RegressionTask, draws: int, rng: np.random.Generator) -> np.ndarray:
    """W = (1/n) Σ x xᵀ, (draws, d, d); by Bartlett's decomposition for Gaussian covariates with n ≥ d."""
    d, n = task.dim, task.context_length
    if task.covariate_law != "gaussian" or n < d:
        x = _covariates(task, draws, rng)
        return np.swapaxes(x, -1, -2) @ x / n
    lower = np.tril(rng.normal(size=(draws, d, d)), -1)
    index = np.arange(d)
    lower[:, index, index] = np.sqrt(rng.chisquare(n - index, size=(draws, d)))
    factor = square_root(task.covariance_matrix) @ lower
    return factor @ np.swapaxes(factor, -1, -2) / n


def _mean(values: np.ndarray) -> Estimate:
    """Mean and its standard error."""
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(float(values.mean()), error, f"mean over {len(values)} draws, one standard error")
