"""Slow, obviously correct reference implementations: rational arithmetic, brute force, token by token.

Nothing here shares code with the packages except `RegressionTask`, which says what is to be computed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import roots_genlaguerre

from plumbline.theory.regression import RegressionTask

Rule = tuple[np.ndarray, np.ndarray]
"""Points (count, …) and weights (count,) of a discrete law."""


# Wishart moments


def pairings(items: list[int]) -> Iterator[list[tuple[int, int]]]:
    """All ways to group an even number of items in pairs."""
    if not items:
        yield []
        return
    first, *rest = items
    for i, partner in enumerate(rest):
        for others in pairings(rest[:i] + rest[i + 1 :]):
            yield [(first, partner), *others]


def wick_moment(words: Sequence[Sequence[np.ndarray]], covariance: np.ndarray, degrees: int) -> Fraction:
    """E ∏ tr(M₁ S M₂ S … ) of S = Σ_a x_a x_aᵀ, x_a ~ N(0, covariance), by summing over all Wick pairings.

    Each word is the list of its matrices M. All matrices hold Fractions or ints (dtype object).
    Every S is one pair of half-edges (x on its left, x on its right), both with the same sample index.
    """
    matrices: list[np.ndarray] = []  # matrices[e] links half-edge link[e] (left) to e (right) through M
    link: dict[int, tuple[int, np.ndarray]] = {}
    for word in words:
        offset = len(matrices)
        for position, matrix in enumerate(word):
            # half-edges of the S after `matrix`: 2p (left x) and 2p + 1 (right x); `matrix` sits between the right
            # x of the S before it (cyclically) and the left x of its own S.
            before = offset + (position - 1) % len(word)
            left, right = 2 * before + 1, 2 * (offset + position)
            link[left], link[right] = (right, matrix), (left, matrix.T)
            matrices.append(matrix)
    count = len(matrices)
    total = Fraction(0)
    for pairing in pairings(list(range(2 * count))):
        mate = {a: b for pair in pairing for a, b in (pair, pair[::-1])}
        value = Fraction(1)
        seen: set[int] = set()
        for start in range(2 * count):
            if start in seen:
                continue
            loop, at = np.array(np.eye(len(covariance), dtype=int), dtype=object), start
            while at not in seen:
                other, matrix = link[at]
                loop = loop @ matrix @ covariance
                seen |= {at, other}
                at = mate[other]
            value *= np.trace(loop)
        # Samples: two half-edges belong to one sample if they are the ends of one S, or paired.
        sample = list(range(count))
        for a, b in pairing:
            old, new = sample[a // 2], sample[b // 2]
            sample = [new if s == old else s for s in sample]
        total += value * degrees ** len(set(sample))
    return total


def partitions(total: int, largest: int | None = None) -> Iterator[list[int]]:
    """All partitions of a number, parts descending."""
    if total == 0:
        yield []
        return
    for first in range(min(total, largest or total), 0, -1):
        for rest in partitions(total - first, first):
            yield [first, *rest]


@cache
def trace_moment(k: int, d: int, n: int) -> Fraction:
    """E tr S^k of S ~ Wishart_d(n, I): the zonal sum over every partition, box by box."""
    if k == 0:
        return Fraction(d)
    total = Fraction(0)
    for shape in partitions(k):
        columns = [sum(row > j for row in shape) for j in range(shape[0])]
        term = Fraction(2 * k)
        for i, row in enumerate(shape):
            for j in range(row):
                content, arm, leg = 2 * j - i, row - j - 1, columns[j] - i - 1
                if (i, j) != (0, 0):
                    term *= content
                term *= Fraction((d + content) * (n + content), (2 * arm + leg + 1) * (2 * arm + leg + 2))
        total += term
    return total


def moments(d: int, n: int, count: int) -> list[Fraction]:
    """m_k = E tr (S/n)^k / d, k < count."""
    return [trace_moment(k, d, n) / (d * Fraction(n) ** k) for k in range(count)]


def two_dimensional_moment(k: int, n: int) -> Fraction:
    """E tr S^k of S ~ Wishart_2(n, I), from the joint moments of its trace and determinant.

    tr S ~ χ²_{2n}, E det^b = ∏ (n + 2j)(n − 1 + 2j), and weighting with det^b turns n into n + 2b.
    """

    def joint(a: int, b: int) -> int:
        determinant = math.prod((n + 2 * j) * (n - 1 + 2 * j) for j in range(b))
        return determinant * math.prod(2 * (n + 2 * b) + 2 * j for j in range(a))

    # Newton: p_k = t p_{k−1} − δ p_{k−2}; a polynomial in trace t and determinant δ as {(a, b): coefficient}.
    before, power = {(0, 0): 2}, {(1, 0): 1}
    for _ in range(k - 1):
        new = {(a + 1, b): c for (a, b), c in power.items()}
        for (a, b), c in before.items():
            new[a, b + 1] = new.get((a, b + 1), 0) - c
        before, power = power, new
    return Fraction(sum(c * joint(a, b) for (a, b), c in (power if k else before).items()))


# Exact linear algebra and polynomials (coefficients ascending)


def solve(matrix: list[list[Fraction]], right: list[Fraction]) -> tuple[list[Fraction], Fraction]:
    """Solution and determinant, by Gauss-Jordan elimination."""
    rows = [[Fraction(x) for x in row] + [Fraction(b)] for row, b in zip(matrix, right, strict=True)]
    determinant = Fraction(1)
    for k in range(len(rows)):
        pivot = next(i for i in range(k, len(rows)) if rows[i][k])
        if pivot != k:
            rows[k], rows[pivot] = rows[pivot], rows[k]
            determinant = -determinant
        determinant *= rows[k][k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(len(rows)):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows], determinant


def multiply(p: Sequence[Fraction], q: Sequence[Fraction]) -> list[Fraction]:
    """Product of two polynomials."""
    result = [Fraction(0)] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            result[i + j] += a * b
    return result


def integral(p: Sequence[Fraction], m: Sequence[Fraction]) -> Fraction:
    """∫ p dμ from the moments m."""
    return sum((c * m[k] for k, c in enumerate(p)), Fraction(0))


def risk(p: Sequence[Fraction], m: Sequence[Fraction], noise_share: Fraction = Fraction(0)) -> Fraction:
    """∫ p² dμ + s ∫ (1 − p)²/t dμ, s = noise_share."""
    q = [-c for c in p[1:]]  # 1 − p = t q
    return integral(multiply(p, p), m) + noise_share * integral([Fraction(0), *multiply(q, q)], m)


def christoffel(steps: int, m: Sequence[Fraction]) -> Fraction:
    """λ_L(0) = det[m_{i+j}]_{0..L} / det[m_{i+j+2}]_{0..L−1}."""

    def hankel(shift: int, size: int) -> Fraction:
        return solve([[m[i + j + shift] for j in range(size)] for i in range(size)], [Fraction(0)] * size)[1]

    return hankel(0, steps + 1) / hankel(2, steps)


def best_polynomial(steps: int, m: Sequence[Fraction], noise_share: Fraction = Fraction(0)) -> list[Fraction]:
    """The polynomial of degree ≤ steps with p(0) = 1 that minimises `risk`, from its normal equations."""
    # Gradient by the coefficient p_i, i ≥ 1: Σ_j p_j (m_{i+j} + s m_{i+j−1}) + m_i = 0.
    index = range(1, steps + 1)
    matrix = [[m[i + j] + noise_share * m[i + j - 1] for j in index] for i in index]
    return [Fraction(1), *solve(matrix, [-m[i] for i in index])[0]]


def evaluate(p: Sequence[Fraction], at: Fraction) -> Fraction:
    """p(at), exactly."""
    return sum((c * at**k for k, c in enumerate(p)), Fraction(0))


def has_zero(p: Sequence[Fraction], near: float, *, relative: float) -> bool:
    """Whether p changes sign within near·(1 ± relative): a proof, in rationals, that a zero lies there."""
    ends = (Fraction(near) * (1 - Fraction(relative)), Fraction(near) * (1 + Fraction(relative)))
    return evaluate(p, ends[0]) * evaluate(p, ends[1]) < 0


def derivative(p: Sequence[Fraction]) -> list[Fraction]:
    """The derivative of a polynomial."""
    return [k * c for k, c in enumerate(p)][1:]


def looped(steps: int, m: Sequence[Fraction]) -> list[Fraction]:
    """∫ (1 − a t)^{2L} dμ as a polynomial in a."""
    return [math.comb(2 * steps, k) * (-1) ** k * m[k] for k in range(2 * steps + 1)]


def product_of_steps(step_sizes: Sequence[float]) -> list[Fraction]:
    """∏ (1 − a t), exact in the given floats."""
    p = [Fraction(1)]
    for a in step_sizes:
        p = multiply(p, [Fraction(1), -Fraction(a)])
    return p


def gd_plus_plus_polynomial(step_sizes: Sequence[float], shrinkages: Sequence[float]) -> list[Fraction]:
    """P = ∏ (1 − a t s²) with s ← s (1 − a b t s²), exact in the given floats."""
    p, s = [Fraction(1)], [Fraction(1)]
    for a, b in itertools.zip_longest(step_sizes, shrinkages, fillvalue=0.0):
        u = [Fraction(0), *multiply(s, s)]  # t s²

        def factor(c: Fraction, u: list[Fraction] = u) -> list[Fraction]:
            return [Fraction(1), *(-c * x for x in u[1:])]

        p = multiply(p, factor(Fraction(a)))
        s = multiply(s, factor(Fraction(a) * Fraction(b)))
    return p


def narayana_moments(ratio: Fraction, count: int) -> list[Fraction]:
    """Moments of the Marchenko-Pastur law, m_k = Σ_j N(k, j) γ^{j−1} with the Narayana numbers."""
    return [Fraction(1)] + [
        sum(Fraction(math.comb(k, j) * math.comb(k, j - 1), k) * ratio ** (j - 1) for j in range(1, k + 1))
        for k in range(1, count)
    ]


# Exact enumeration: discrete laws with the same moments as the continuous ones, up to a given degree


def product_rule(rules: Sequence[Rule]) -> tuple[list[np.ndarray], np.ndarray]:
    """Points of each factor over the whole product, and the product weights."""
    index = np.meshgrid(*(np.arange(len(weights)) for _, weights in rules), indexing="ij")
    points = [points[i.ravel()] for (points, _), i in zip(rules, index, strict=True)]
    return points, np.prod([weights[i.ravel()] for (_, weights), i in zip(rules, index, strict=True)], axis=0)


def normal_rule(dim: int, degree: int) -> Rule:
    """A law on R^dim with the moments of N(0, I) up to `degree` in each coordinate."""
    nodes, weights = hermegauss(degree // 2 + 1)
    points, weights = product_rule([(nodes, weights / weights.sum())] * dim)
    return np.stack(points, axis=-1), weights


def covariate_rule(task: RegressionTask, degree: int) -> Rule:
    """A law with the moments of the covariates up to a total degree (dimension 1 or 2 off the Gaussian law)."""
    if task.covariate_law == "gaussian":
        z, weights = normal_rule(task.dim, degree)
    else:
        count = degree + 2 - degree % 2  # even: symmetric under z → −z, so odd powers of the radius never matter
        angles = 2 * np.pi * (np.arange(count) + 0.3) / count
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        directions = (circle, np.full(count, 1 / count))
        if task.dim == 1:
            directions = (np.array([[-1.0], [1.0]]), np.full(2, 0.5))
        radii = np.ones(1), np.ones(1)
        if task.covariate_law == "gamma":
            nodes, weights = roots_genlaguerre(degree // 4 + 1, task.gamma_shape - 1)
            radii = np.sqrt(nodes * math.sqrt(10 / task.gamma_shape)), weights / weights.sum()
        (direction, radius), weights = product_rule([directions, radii])
        z = direction * radius[:, None]
    return z @ np.linalg.cholesky(task.covariance_matrix).T, weights


def wishart_rule(covariance: np.ndarray, n: int, degree: int) -> Rule:
    """A law of W = (1/n) Σ x xᵀ with the right moments up to `degree` in W, from Bartlett's decomposition."""
    d = len(covariance)
    rules = []
    for i in range(d):
        for j in range(i + 1):
            if i == j:
                nodes, weights = roots_genlaguerre(degree // 2 + 1, (n - i) / 2 - 1)
                rules.append((np.sqrt(2 * nodes), weights / weights.sum()))
            else:
                nodes, weights = hermegauss(degree + 1)
                rules.append((nodes, weights / weights.sum()))
    entries, weights = product_rule(rules)
    lower = np.zeros((len(weights), d, d))
    rows, columns = np.tril_indices(d)
    lower[:, rows, columns] = np.stack(entries, axis=-1)
    factor = np.linalg.cholesky(covariance) @ lower
    return factor @ np.swapaxes(factor, 1, 2) / n, weights


# Token level


def sample_prompts(
    task: RegressionTask, count: int, rng: np.random.Generator, *, length: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw x (count, length, d), y (count, length), w (count, d) and the query (count, d)."""
    d, n = task.dim, task.context_length if length is None else length
    z = rng.normal(size=(count, n + 1, d))
    if task.covariate_law != "gaussian":
        z /= np.sqrt(np.sum(z**2, axis=-1, keepdims=True))
    if task.covariate_law == "gamma":
        z *= np.sqrt(math.sqrt(10 / task.gamma_shape) * rng.standard_gamma(task.gamma_shape, size=(count, n + 1, 1)))
    x = z @ np.linalg.cholesky(task.covariance_matrix).T
    w = rng.normal(size=(count, d)) @ np.linalg.cholesky(task.weight_covariance_matrix).T
    y = np.einsum("bni,bi->bn", x[:, :n], w) + math.sqrt(task.noise_variance) * rng.normal(size=(count, n))
    return x[:, :n], y, w, x[:, n]


def enumerate_prompts(
    task: RegressionTask,
    *,
    degree: int,
    weight_degree: int = 2,
    noise_degree: int = 2,
    query_degree: int = 2,
    length: int | None = None,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """All prompts of the discrete law with the task's moments, as `sample_prompts`, and their probabilities.

    The degrees are those of what is averaged in each covariate vector, in w, in each label's noise and in the query;
    the squared error is quadratic in the query.
    """
    n = task.context_length if length is None else length
    noise_rule = normal_rule(1, noise_degree) if task.noise_variance else (np.zeros((1, 1)), np.ones(1))
    points, probabilities = product_rule(
        [covariate_rule(task, degree)] * n
        + [noise_rule] * n
        + [normal_rule(task.dim, weight_degree), covariate_rule(task, query_degree)]
    )
    x, noise = np.stack(points[:n], axis=1), np.concatenate(points[n : 2 * n], axis=1)
    w = points[-2] @ np.linalg.cholesky(task.weight_covariance_matrix).T
    y = np.einsum("bni,bi->bn", x, w) + math.sqrt(task.noise_variance) * noise
    return (x, y, w, points[-1]), probabilities


def enumerate_gram_prompts(
    task: RegressionTask, *, degree: int
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """As `enumerate_prompts` for Gaussian tasks with n ≥ d and a squared error of this degree in W = (1/n) Σ x xᵀ.

    A transformer sees its examples through (1/n) Σ x xᵀ and (1/n) Σ y x only (without (1/n) Σ y², that is for the
    sparse weights), so d examples with the same two averages replace the n: W by Bartlett's decomposition, and label
    noise of variance σ² d/n.
    """
    d, n = task.dim, task.context_length
    wishart_points, wishart_weights = wishart_rule(task.covariance_matrix, n, degree)
    roots = math.sqrt(d) * np.swapaxes(np.linalg.cholesky(wishart_points), 1, 2)
    noise_rule = normal_rule(d, 2) if task.noise_variance else (np.zeros((1, d)), np.ones(1))
    (x, noise, w, query), probabilities = product_rule(
        [(roots, wishart_weights), noise_rule, normal_rule(d, 2), covariate_rule(task, 2)]
    )
    w = w @ np.linalg.cholesky(task.weight_covariance_matrix).T
    y = np.einsum("bni,bi->bn", x, w) + math.sqrt(task.noise_variance * d / n) * noise
    return (x, y, w, query), probabilities


def squared_errors(
    value: np.ndarray, key_query: np.ndarray, prompts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """(prediction − w·x_q)² of the transformer with full weights (layers, heads, d+1, d+1), token by token.

    Z ← Z + (1/n) Σ_h P Z M (Zᵀ Q Z), tokens in columns, M = diag(I_n, 0), prediction = −Z[d+1, n+1].
    """
    x, y, w, query = prompts
    batch, n, d = x.shape
    z = np.zeros((batch, d + 1, n + 1))
    z[:, :d, :n], z[:, d, :n], z[:, :d, n] = np.swapaxes(x, 1, 2), y, query
    mask = np.diag([1.0] * n + [0.0])
    for layer_value, layer_key_query in zip(value, key_query, strict=True):
        z_transposed = np.swapaxes(z, 1, 2)
        z = z + sum(
            p @ z @ mask @ (z_transposed @ q @ z) / n for p, q in zip(layer_value, layer_key_query, strict=True)
        )
    return (-z[:, d, n] - np.sum(w * query, axis=1)) ** 2


def prompt_gradients(
    preconditioner: np.ndarray, prompts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Gradients (batch, d, d) of (((1/n) Σ y x)ᵀ A x_q − w·x_q)² in A."""
    x, y, w, query = prompts
    features = np.mean(x * y[..., None], axis=1)
    error = np.sum((features @ preconditioner - w) * query, axis=1)
    return 2 * error[:, None, None] * features[:, :, None] * query[:, None, :]


def risks_given_gram(
    value: np.ndarray, key_query: np.ndarray, grams: np.ndarray, noise_share: float, weight_covariance: np.ndarray
) -> np.ndarray:
    """E over w ~ N(0, Ψ), query ~ N(0, I) and noise, given W (batch, d, d); weights (layers, d, d), real or complex.

    tr(Ψ C Cᵀ) + (σ²/n) tr(W D Dᵀ), C = I + W D, from the layers one by one.
    """
    eye = np.eye(grams.shape[-1])
    answer, moved = np.zeros(grams.shape, complex), np.broadcast_to(eye, grams.shape).astype(complex)
    for b, k in zip(value, key_query, strict=True):
        turned = np.swapaxes(moved, -1, -2)  # no conjugate: this is a polynomial in complex weights
        update = turned @ k @ moved
        answer, moved = answer + (eye + answer @ grams) @ update, moved + b @ moved @ grams @ update
    signal = eye + grams @ answer
    noise = np.sum((grams @ answer) * answer, axis=(-1, -2))
    return np.sum((weight_covariance @ signal) * signal, axis=(-1, -2)) + noise_share * noise


def derivatives_on_circle(function, order: int, radius: float = 0.02, count: int = 64):
    """The derivative of a polynomial of degree < ``count`` at 0, from its values on a circle (Cauchy), to rounding."""
    points = np.exp(2j * np.pi * np.arange(count) / count)
    values = np.array([function(radius * z) for z in points])
    return math.factorial(order) * np.tensordot(points**-order, values, 1).real / (count * radius**order)


def embed(value: np.ndarray, key_query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Full weights [[B, 0], [0, 1]] and [[K, 0], [0, 0]] of the blocks B and K (…, d, d)."""
    *lead, d, _ = key_query.shape
    p, q = np.zeros((*lead, d + 1, d + 1)), np.zeros((*lead, d + 1, d + 1))
    p[..., :d, :d], p[..., d, d], q[..., :d, :d] = value, 1, key_query
    return p, q


def attention_weights(inputs, query, key):
    """Softmax weights (T, S) of the last position over all; inputs (T, S, width), query and key (head_dim, width)."""
    scores = np.einsum("ti,ji,jk,tsk->ts", inputs[:, -1], query, key, inputs)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def attention_features(contexts, heads, head_dim, embed_dim, vocab_size, random, *, compressed=False, scale=1.0):
    """Z (T, d + H d_h): skip and values of every head, for one draw of Gaussian weights; also the weights drawn."""
    length = contexts.shape[1]
    tokens = random.normal(size=(vocab_size, embed_dim))
    width = head_dim if compressed else embed_dim
    compress = random.normal(size=(width, embed_dim)) if compressed else np.eye(embed_dim)
    positions = random.normal(size=(length, width))
    inputs = (tokens @ compress.T)[contexts] + positions
    skip = tokens[contexts[:, -1]] if compressed else inputs[:, -1]
    blocks, drawn = [skip], []
    for _ in range(heads):
        query, key, value = random.normal(size=(3, head_dim, width))
        query *= scale / np.sqrt(width * head_dim)
        mixed = np.einsum("ts,tsi->ti", attention_weights(inputs, query, key), inputs)
        blocks.append(mixed @ value.T)
        drawn.append((query, key, value))
    return np.concatenate(blocks, axis=1), (tokens, positions, drawn)


def conditioned_features(contexts, stored, *sizes):
    """`attention_features` of the one among 16 draws whose features on the stored contexts have the least condition."""
    draws = [attention_features(contexts, *sizes, np.random.default_rng(seed), scale=4) for seed in range(16)]
    return min(draws, key=lambda draw: np.linalg.cond(draw[0][stored]))


def attention_only_logits(contexts, tokens, positions, heads, unembedding):
    """The paper's transformer, position by position: heads are (W_Q, W_K, W_V, W_O), the unembedding is (N, d)."""
    inputs = tokens[contexts] + positions
    total = inputs[:, -1].copy()
    for query, key, value, output in heads:
        mixed = np.einsum("ts,tsi->ti", attention_weights(inputs, query, key), inputs)
        total += mixed @ value.T @ output.T
    return total @ unembedding.T


def turned(task: RegressionTask, u: np.ndarray) -> RegressionTask:
    """The task with covariates and weights turned by an orthogonal u."""

    def by_u(matrix: np.ndarray) -> np.ndarray:
        rotated = u @ matrix @ u.T
        return (rotated + rotated.T) / 2

    return replace(task, covariance=by_u(task.covariance_matrix), weight_covariance=by_u(task.weight_covariance_matrix))
