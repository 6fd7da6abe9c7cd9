"""Which layer a one-layer model has: its attention, what its feed-forward layer reads, and what that was built with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import check_noise_estimate, check_share
from plumbline.theory.reasoning.task import check_task

Attention = Literal["linear", "relu", "softmax"]
FeedForward = Literal["F", "FA"]
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)
FEED_FORWARDS: tuple[FeedForward, ...] = get_args(FeedForward)
RELU_OFFSET = 1e-8
"""The published ReLU attention is max(s + 1e-8, 0): without it W = 0 is a point of zero gradient."""


@dataclass(frozen=True)
class Layer:
    r"""The layer of a reparameterised model.

    .. math:: ξ = m + F (x_H + κ m), \quad m = ∑_h a(s)_h x_h, \quad F = E(τ) (γ̂ E(q) + Ẽ(q))^T, \quad
              γ̂ = \log(α̂/(1-α̂))

    with the attention a(s) = s, max(s, 0) or softmax(s) of the scores s, and the attention output m at the last token
    x_H. Without noise there is no F, and both feed-forward layers are one model.

    Args:
        attention: ``"linear"``, ``"relu"`` or ``"softmax"``.
        feed_forward: ``"F"``, which reads the last token (κ = 0), or ``"FA"``, the attention output too (κ = 1).
        noise_estimate: α̂ in (0, 1) the feed-forward layer is built with; ``None`` is the task's noise.

    Raises:
        ValueError: on another word, or an α̂ out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), whose models are named after the two; α̂ is that of its section 5.

    Example:
        >>> Layer("softmax").kappa, Layer(feed_forward="F").kappa
        (1.0, 0.0)
    """

    attention: Attention = "linear"
    feed_forward: FeedForward = "FA"
    noise_estimate: float | None = None

    def __post_init__(self) -> None:
        checks.one_of("attention", self.attention, ATTENTIONS)
        checks.one_of("feed_forward", self.feed_forward, FEED_FORWARDS)
        if self.noise_estimate is not None:
            object.__setattr__(self, "noise_estimate", check_share(self.noise_estimate))

    @property
    def kappa(self) -> float:
        """κ, the weight with which the feed-forward layer reads the attention output."""
        return float(self.feed_forward == "FA")


LINEAR_FA, LINEAR_F = Layer(), Layer(feed_forward="F")


def check_layer(task: Any, layer: Any) -> float:
    """Validate both, and return α̂, the task's own noise if the layer names none."""
    check_task(task)
    if not isinstance(layer, Layer):
        raise ValueError(f"layer must be a Layer, got {layer!r}")
    return check_noise_estimate(task, layer.noise_estimate)
