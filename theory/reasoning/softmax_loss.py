"""Softmax attention: every token leaks into the logits, and the loss is an average over random token counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.estimate import Estimate
from plumbline.theory.reasoning.bayes import AnswerProbabilities, check_noise_estimate, noise_logit
from plumbline.theory.reasoning.layer import FEED_FORWARDS
from plumbline.theory.reasoning.task import ReasoningTask, check_task

METHODS = ("exact", "second-order", "jensen")
MAX_EXACT_SIZE = 10_000
"""Largest vocabulary and sentence of the exact method."""
MAX_TIED_SCALE = 1e4
"""Largest scale of the tied model: its loss is a difference of numbers of this size."""
EPSILON = float(np.finfo(float).eps)
# Trapezoid in x = log u. The integrands are analytic for |Im x| < π/2, so the step 1/5 errs by exp(−5π²) = 4e-22;
# right of 5 they are below exp(−e⁵), left of the ends below rounding.
GRID_STEP = 0.2
GRID_END = 5.0


def softmax_loss(
    task: ReasoningTask,
    scale: float,
    *,
    feed_forward: str = "FA",
    noise_estimate: float | None = None,
    tied_value: bool = False,
    method: str = "exact",
) -> Estimate:
    r"""Return the population loss of the reparameterised model with softmax attention, and its error.

    With scale λ the token behind the trigger has the attention weight a = e^λ/(e^λ + H − 1), every other position
    b = 1/(e^λ + H − 1). With c the counts of the generic tokens over the M = H − 3 (with noise H − 5) free positions,
    Multinomial(M, 1/n), the loss is E log S − E ξ_label with

    .. math:: S = e^{a + b c_y} + ∑_{v ≠ y} e^{b c_v} + K,

    K = e^{2b} + Q without noise, K = e^{3b} + Q − 1 + e^{ξ_τ} with, ξ_τ = b + γ̂(1 + 3κb) + κ(a + b), κ = 1 for
    ``"FA"`` and 0 for ``"F"``.

    - ``"exact"``: E log S = log E S + ∫ (e^{−u} − E e^{−uS/ES}) du/u; the expectation factorises over the tokens once
      M is made Poisson, and the coefficient of M is taken back out by a discrete Fourier transform.
    - ``"jensen"``: log E S, an upper bound; the loss lies in [value − error, value].
    - ``"second-order"``: log E S − Var S/(2 (E S)²), certified to ± error.

    The error bounds follow from (x − log(1 + x))/x² being decreasing, with x = S/ES − 1 between its two extremes.

    With ``tied_value`` the value matrix is λ I instead of I, and the feed-forward layer reads the attended trigger with
    weight λ: the logits are then unbounded, and the loss goes to the Bayes risk. With the published value matrix I
    it cannot, see `limit_loss`.

    Args:
        task: Any task; for ``"exact"`` with vocabulary and sentence of at most `MAX_EXACT_SIZE`.
        scale: λ; with ``tied_value`` from 0 to `MAX_TIED_SCALE`.
        feed_forward: ``"FA"`` (reads the attention layer's output too) or ``"F"``; the same without noise.
        noise_estimate: α̂ in (0, 1) the feed-forward layer is built with; ``None`` is the task's noise.
        tied_value: Tie the value matrix to λ I.
        method: ``"exact"``, ``"second-order"`` or ``"jensen"``.

    Returns:
        `Estimate` with the loss in nats; the error of ``"exact"`` is its rounding error.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here. The published Lemma 4.1 and Theorem 4.2 (2505.15009) claim an optimal softmax model; the published
        code holds only the one with value matrix I.

    Example:
        >>> round(softmax_loss(ReasoningTask(), 6.0).value, 10)
        3.494977416
        >>> softmax_loss(ReasoningTask(), 6.0, method="second-order").error < 1e-9
        True
    """
    check_task(task)
    checks.one_of("method", method, METHODS)
    logits = leaking_logits(task, *_arguments(task, scale, feed_forward, noise_estimate, tied_value))
    return logits.loss(method)


def softmax_probabilities(
    task: ReasoningTask,
    scale: float,
    *,
    feed_forward: str = "FA",
    noise_estimate: float | None = None,
    tied_value: bool = False,
) -> AnswerProbabilities:
    r"""Return the expected probabilities E P(y) and E P(τ) under softmax attention.

    .. math:: E P(v) = ∫_0^∞ E[e^{ξ_v} e^{-uS}] du

    by the same exact method, and with the same arguments, as `softmax_loss`.

    Args:
        task: As for `softmax_loss`, at most `MAX_EXACT_SIZE`.
        scale: λ.
        feed_forward: ``"FA"`` or ``"F"``.
        noise_estimate: α̂; ``None`` is the task's noise.
        tied_value: Tie the value matrix to λ I.

    Returns:
        `AnswerProbabilities`, averaged over sentences.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(softmax_probabilities(ReasoningTask(), 30.0).output, 8)
        0.04404338
    """
    check_task(task)
    return leaking_logits(task, *_arguments(task, scale, feed_forward, noise_estimate, tied_value)).probabilities()


def attention_weights(task: ReasoningTask, scale: float) -> tuple[float, float]:
    """The softmax attention weight (a, b) of the token behind the trigger and of every other position."""
    others = task.sentence_length - 1
    # In either branch the exponential is at most 1.
    if scale > 0:
        low = math.exp(-scale)
        return 1 / (1 + others * low), low / (1 + others * low)
    high = math.exp(scale)
    return high / (high + others), 1 / (high + others)


def softmax_loss_derivative(
    task: ReasoningTask, scale: float, *, feed_forward: str = "FA", noise_estimate: float | None = None
) -> float:
    """dL/dλ of `softmax_loss` with value matrix I, by the exact method."""
    check_task(task)
    a, b, leak, rate, estimate = _arguments(task, scale, feed_forward, noise_estimate, False)
    logits = leaking_logits(task, a, b, leak, rate, estimate)
    # The logits move by da/dλ = a (1 − a) on the output and db/dλ = −a b elsewhere; 1 − a = (H − 1) b.
    return logits.derivative(a * (task.sentence_length - 1) * b, -a * b)


def leaking_logits(
    task: ReasoningTask, on_output: float, elsewhere: float, leak: float, kappa: float, estimate: float
) -> LeakingLogits:
    """Collect what the loss needs: logit per occurrence on the output and elsewhere, and the fixed tokens' logits.

    ``leak`` is the attention weight elsewhere, which multiplies γ̂; it differs from ``elsewhere`` under a tied value.
    """
    if not task.noise:
        return LeakingLogits(task, on_output, elsewhere, None, 0.0, kappa)
    gamma = noise_logit(estimate)
    noise_token = elsewhere + gamma * (1 + 3 * kappa * leak) + kappa * (on_output + elsewhere)
    return LeakingLogits(task, on_output, elsewhere, noise_token, gamma, kappa)


@dataclass(frozen=True)
class LeakingLogits:
    """Logits w + v c_y of the output, v c of other generic tokens, 2v or 3v of the trigger, and ξ_τ."""

    task: ReasoningTask
    w: float
    v: float
    noise_token: float | None
    gamma: float
    kappa: float

    @property
    def draws(self) -> int:
        """M, the number of free positions."""
        return self.task.sentence_length - (5 if self.task.noise else 3)

    @property
    def generic(self) -> int:
        """n, the number of generic tokens."""
        return len(self.task.generic_tokens)

    @property
    def log_constant(self) -> float:
        """log K: trigger, other triggers, noise token."""
        if self.noise_token is None:
            return math.log(math.exp(2 * self.v) + self.task.triggers)
        return float(np.logaddexp(math.log(math.exp(3 * self.v) + self.task.triggers - 1), self.noise_token))

    @property
    def log_growth(self) -> float:
        """log E e^{v c} = M log(1 + (e^v − 1)/n)."""
        return self.draws * math.log1p(math.expm1(self.v) / self.generic)

    @property
    def log_mean(self) -> float:
        """log E S."""
        tokens = _log_sum(self.w, self.generic - 1)
        return float(np.logaddexp(tokens + self.log_growth, self.log_constant))

    @property
    def label_logit(self) -> float:
        """E ξ_label."""
        output = self.w + self.v * self.draws / self.generic
        if self.noise_token is None:
            return output
        return (1 - self.task.noise) * output + self.task.noise * self.noise_token

    def loss(self, method: str) -> Estimate:
        """E log S − E ξ_label."""
        upper, spread = self.log_mean, self.relative_variance
        base = upper - self.label_logit
        # The closed forms subtract numbers of this size, each good to a few units in its last place.
        rounding = 8 * EPSILON * (abs(upper) + abs(self.label_logit) + 1)
        low = math.expm1(float(np.logaddexp(_log_sum(self.w, self.generic - 1), self.log_constant)) - upper)
        top = _log_sum(self.w + self.v * self.draws, self.generic - 1)
        high = math.expm1(float(np.logaddexp(top, self.log_constant)) - upper)
        if method == "jensen":
            return Estimate(base, spread * _curvature(low) + rounding, "log E S, an upper bound; certified")
        if method == "second-order":
            error = spread * max(_curvature(low) - 0.5, 0.5 - _curvature(high), 0.0) + rounding
            return Estimate(base - spread / 2, error, "second-order expansion of E log S; certified")
        u, step = self._grid(-20.0)
        gap = step * float(np.sum(np.exp(-u) - self._laplace(u)[0]))
        # The powers of the transform lose n units in the last place, taking out the coefficient sqrt(2πM).
        rounding += EPSILON * (self.generic + 10) * math.sqrt(2 * math.pi * self.draws + 1)
        return Estimate(base + gap, rounding, "Poissonised expectation of E log S; rounding error")

    def probabilities(self) -> AnswerProbabilities:
        """E P(y) and E P(τ)."""
        u, step = self._grid(-40.0)
        plain, output, _ = self._laplace(u)
        noise = 0.0 if self.noise_token is None else self.noise_token
        return AnswerProbabilities(
            step * float(np.sum(u * output)), math.exp(noise - self.log_mean) * step * float(np.sum(u * plain))
        )

    def derivative(self, dw: float, dv: float) -> float:
        """E S'/S − E ξ'_label where w and v, and the attention weights with them, move by dw and dv."""
        u, step = self._grid(-40.0)
        plain, output, counted = self._laplace(u)
        occurrences = 2 if self.noise_token is None else 3
        fixed = occurrences * dv * math.exp(occurrences * self.v - self.log_mean)
        label = dw + dv * self.draws / self.generic
        if self.noise_token is not None:
            d_noise = dv + 3 * self.gamma * self.kappa * dv + self.kappa * (dw + dv)
            fixed += d_noise * math.exp(self.noise_token - self.log_mean)
            label = (1 - self.task.noise) * label + self.task.noise * d_noise
        return step * float(np.sum(u * (dw * output + dv * counted + fixed * plain))) - label

    @property
    def relative_variance(self) -> float:
        """Var S / (E S)²."""
        n, m, t = self.generic, self.draws, math.expm1(self.v)
        other = math.exp(self.log_growth - self.log_mean)
        output = math.exp(self.w + self.log_growth - self.log_mean)
        # E e^{2vc} and E e^{v(c + c')} over (E e^{vc})², less one; formed without cancellation.
        same = math.expm1(m * math.log1p(t * t * (n - 1) / (n + t) ** 2))
        different = math.expm1(m * math.log1p(-((t / (n + t)) ** 2)))
        pairs = (n - 1) * (2 * output * other + (n - 2) * other**2)
        return (output**2 + (n - 1) * other**2) * same + pairs * different

    def _grid(self, start: float) -> tuple[np.ndarray, float]:
        return np.exp(np.arange(start, GRID_END, GRID_STEP)), GRID_STEP

    def _laplace(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """E e^{−us}, E s_y e^{−us} and E (Σ_v c_v s_v) e^{−us}, in units s = S/ES, s_v = e^{ξ_v}/ES."""
        n, m = self.generic, self.draws
        if max(self.task.vocab_size, self.task.sentence_length) > MAX_EXACT_SIZE:
            raise ValueError(
                f"task must have vocab_size and sentence_length of at most {MAX_EXACT_SIZE} for the exact method, got "
                f'{self.task.vocab_size} and {self.task.sentence_length}; the method "second-order" takes any size'
            )
        u, c = np.append(0.0, u), np.arange(m + 1)
        log_poisson = _log_poisson(c, m / n)
        size = 1 << (m + 60).bit_length()  # what wraps around is below P(Poisson(M) ≥ M + size), at most 1e-60
        other = np.exp(self.v * c - self.log_mean)
        output = np.exp(self.w + self.v * c - self.log_mean)
        a = np.exp(log_poisson - u[:, None] * other)
        b = np.exp(log_poisson - u[:, None] * output)
        fa, fb, fac, fby, fbc = (
            np.fft.rfft(series, size, axis=1) for series in (a, b, a * c * other, b * output, b * c * output)
        )
        power = fa ** (n - 2) if n > 1 else np.zeros_like(fa)
        rest = power * fa if n > 1 else np.ones_like(fa)
        # The coefficient of x^M, over its value at u = 0, the probability that Poisson(M) is M.
        frequency = np.arange(fa.shape[1])
        weight = np.exp(2j * np.pi * (frequency * m % size) / size) * np.where(frequency % (size // 2), 2.0, 1.0)
        counted = (n - 1) * power * fac * fb + rest * fbc
        plain, first, second = (np.real(f @ weight) for f in (rest * fb, rest * fby, counted))
        factor = np.exp(-u[1:] * math.exp(self.log_constant - self.log_mean)) / plain[0]
        return factor * plain[1:], factor * first[1:], factor * second[1:]


def _arguments(
    task: ReasoningTask, scale: Any, feed_forward: Any, noise_estimate: Any, tied_value: bool
) -> tuple[float, float, float, float, float]:
    """Validate, and return what `leaking_logits` takes after the task."""
    scale = checks.real("scale", scale)
    if tied_value:
        checks.real("scale", scale, at_least=0.0, at_most=MAX_TIED_SCALE)
    checks.one_of("feed_forward", feed_forward, FEED_FORWARDS)
    estimate = check_noise_estimate(task, noise_estimate)
    a, b = attention_weights(task, scale)
    value = scale if tied_value else 1.0
    return value * a, value * b, b, float(feed_forward == "FA"), estimate


def _log_sum(logit: float, others: int) -> float:
    """log(e^logit + others)."""
    return float(np.logaddexp(logit, math.log(others))) if others else logit


def _curvature(x: float) -> float:
    """(x − log(1 + x))/x², decreasing from ∞ at −1 through 1/2 at 0."""
    if abs(x) < 1e-3:
        return 0.5 - x / 3 + x * x / 4 - x**3 / 5
    return (x - math.log1p(x)) / (x * x)


def _log_poisson(count: np.ndarray, mean: float) -> np.ndarray:
    """log P(Poisson(mean) = count); at mean 0 only the count 0 is asked for."""
    from scipy.special import gammaln, xlogy

    return xlogy(count, mean) - mean - gammaln(count + 1)
