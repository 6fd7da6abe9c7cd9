"""The one-layer transformers of in-context reasoning: token level, by lookup, and from sufficient statistics."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from plumbline.models.reasoning.lookup import activate, attend
from plumbline.models.reasoning.losses import cross_entropy, label_count_loss
from plumbline.models.reasoning.matches import Matches, match_counts, match_tokens
from plumbline.models.tensors import placement
from plumbline.theory import checks
from plumbline.theory.reasoning.layer import Attention, FeedForward, Layer, check_layer
from plumbline.theory.reasoning.model_names import MODEL_NAMES
from plumbline.theory.reasoning.task import ReasoningTask, check_task

PARAMETERIZATIONS = ("origin", "reparam", "reparam-w")


class Logits(NamedTuple):
    """Next-token logits by the layer they come from.

    Attributes:
        attention: ξ_A, (batch, N).
        feed_forward: ξ_F, (batch, N); zero where the model has no feed-forward layer.
    """

    attention: Tensor
    feed_forward: Tensor

    @property
    def total(self) -> Tensor:
        """ξ = ξ_A + ξ_F."""
        return self.attention + self.feed_forward


class OneLayerTransformer(nn.Module):
    r"""Attention and a linear feed-forward layer over one-hot embeddings of each token and the token before it.

    With E(v) = e_v, E~(v) = e_{N+v} in R^{2N}, x_h = E(z_h) + E~(z_{h-1}) (the first token: E(z_0) alone) and x_H the
    embedding at the last position, the logits are ξ = ξ_A + ξ_F,

    .. math:: s_h = x_H^T W x_h, \quad m = ∑_h a(s)_h x_h, \quad ξ_A = V m, \quad ξ_F = F (x_H + κ m)

    with the attention a(s) = s (``"linear"``), max(s + 1e-8, 0) (``"relu"``) or softmax(s), over all positions and
    without a factor 1/H, and κ = 0 (``"F"``) or 1 (``"FA"``). All parameters start at zero.

    - ``"origin"``: W, V and F are trained.
    - ``"reparam"``: V = [I 0], and λ is trained, W = ∑_k λ_k E(k) E~(k)^T without F; with noise α there is one λ,
      W = λ E(0) (E~(0) - E(τ))^T and F = e_τ (γ E(0) + E~(0))^T with γ = log(α / (1-α)).
    - ``"reparam-w"``: V and F as in ``"reparam"``, W is trained.

    So without noise both reparameterised kinds are the same for either feed-forward layer. The 1e-8 of ReLU attention
    is the published one: it makes λ = 0 a point with a slope, and gives every position a weight of 1e-8.

    The published matrices are (d, d), d ≥ 2N, and the output layer reads the first N entries. W is their block
    [:2N, :2N], V and F their blocks [:N, :2N]. All other entries have no gradient, and stay at zero.

    The default is float64. With the usual float32 and cross-entropy, normalised gradient descent stalls at λ ≈ 19,
    since the gradient is then below the rounding of the probabilities; `loss` and `label_count_loss` are written to
    keep their relative precision, see there.

    Args:
        task: Vocabulary and triggers, and whether there is noise.
        parameterization: ``"origin"``, ``"reparam"`` or ``"reparam-w"``.
        attention: ``"linear"``, ``"relu"`` or ``"softmax"``.
        feed_forward: ``"F"`` or ``"FA"``.
        noise_estimate: The α in γ, in (0, 1), for instance the share of noise labels in a finite sample; ``None`` is
            the noise of the task. Only for reparameterised models with noise.
        dtype: float32 or float64.
        device: Device of parameters and buffers.

    Attributes:
        scale: Parameter λ, (Q,), with noise (1,); ``None`` unless ``"reparam"``.
        key_query: Parameter W, (2N, 2N); ``None`` for ``"reparam"``.
        value: Parameter V, (N, 2N); ``None`` unless ``"origin"``.
        feed_forward_weight: Parameter F, (N, 2N); ``None`` unless ``"origin"``.
        noise_logit: Buffer γ, (); ``None`` for ``"origin"`` and without noise.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Nguyen & Nguyen-Tang 2025 (2505.15009) and its code. Parameters restricted to the blocks with a gradient.

    Example:
        >>> model = OneLayerTransformer(ReasoningTask(noise=0.2), parameterization="reparam", attention="relu")
        >>> model.name, sum(parameter.numel() for parameter in model.parameters())
        ('Reparam-Relu-FA', 1)
        >>> model(torch.tensor([[0, 7, 30, 0, 59, 21, 0]])).total.shape
        torch.Size([1, 60])
    """

    scale: nn.Parameter | None
    key_query: nn.Parameter | None
    value: nn.Parameter | None
    feed_forward_weight: nn.Parameter | None
    noise_logit: Tensor | None

    def __init__(
        self,
        task: ReasoningTask,
        *,
        parameterization: Literal["origin", "reparam", "reparam-w"] = "origin",
        attention: Attention = "linear",
        feed_forward: FeedForward = "FA",
        noise_estimate: float | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.task = check_task(task)
        self.parameterization = checks.one_of("parameterization", parameterization, PARAMETERIZATIONS)
        layer = Layer(attention, feed_forward, noise_estimate)
        self.attention, self.feed_forward = layer.attention, layer.feed_forward
        dtype, device = placement(None, dtype, device, optional=True)
        n = task.vocab_size

        def register(name: str, *shape: int, wanted: bool) -> None:
            parameter = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device)) if wanted else None
            self.register_parameter(name, parameter)

        origin = parameterization == "origin"
        register("scale", len(task.sentence_triggers), wanted=parameterization == "reparam")
        register("key_query", 2 * n, 2 * n, wanted=parameterization != "reparam")
        register("value", n, 2 * n, wanted=origin)
        register("feed_forward_weight", n, 2 * n, wanted=origin)
        gamma = None
        if task.noise and not origin:
            share = check_layer(task, layer)
            gamma = torch.tensor(math.log(share) - math.log1p(-share), dtype=dtype, device=device)
        elif noise_estimate is not None:
            raise ValueError(
                f"noise_estimate must be None for origin models and without noise (no γ), got {noise_estimate!r}"
            )
        self.register_buffer("noise_logit", gamma)

    @classmethod
    def from_name(
        cls,
        name: str,
        task: ReasoningTask,
        *,
        noise_estimate: float | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> OneLayerTransformer:
        """Build a model by its published name, one of `MODEL_NAMES`.

        Raises:
            ValueError: for an unknown name, with the nearest one.

        Example:
            >>> OneLayerTransformer.from_name("Reparam-Linear-W-FA", ReasoningTask()).parameterization
            'reparam-w'
        """
        first, attention, *trained, feed_forward = checks.one_of("name", name, MODEL_NAMES).split("-")
        options: dict[str, Any] = {
            "parameterization": "-".join([first, *trained]).lower(),
            "attention": attention.lower(),
            "feed_forward": feed_forward,
        }
        return cls(task, **options, noise_estimate=noise_estimate, dtype=dtype, device=device)

    @property
    def name(self) -> str:
        """The model's name in the style of the published ones."""
        first, *trained = self.parameterization.split("-")
        return "-".join([first.title(), self.attention.title(), *(part.upper() for part in trained), self.feed_forward])

    def extra_repr(self) -> str:
        # The value of α is no part of it: models for different noise levels can stand in one ensemble.
        return (
            f"{self.name!r}, vocab_size={self.task.vocab_size}, triggers={self.task.triggers}, "
            f"noise={self.task.noise > 0}"
        )

    def forward(self, tokens: Tensor) -> Logits:
        """Return the logits, with the embeddings of all tokens written out: O(H N²) per sentence.

        Args:
            tokens: Token ids (batch, H), H ≥ 2, any sentences.

        Raises:
            ValueError: if the tokens have another shape, are no int64 ids, or out of the vocabulary.
        """
        tokens = self._tokens(tokens)
        weight, value, feed_forward = self.matrices()
        own = one_hot(tokens, self.task.vocab_size)
        x = torch.cat([own, pad(own[:, :-1], (0, 0, 1, 0))], dim=2).to(weight.dtype)
        scores = torch.einsum("bi,ij,bhj->bh", x[:, -1], weight, x)
        mixed = torch.einsum("bh,bhi->bi", activate(scores, self.attention), x)
        read = x[:, -1] + mixed if self.feed_forward == "FA" else x[:, -1]
        return Logits(mixed @ value.mT, read @ feed_forward.mT)

    def lookup_logits(self, tokens: Tensor) -> Logits:
        """Return the same logits as `forward` by looking weights up in place of products with one-hot vectors.

        It costs O(H + N²) per sentence, for the reparameterised models O(H + N), where all but the counting of tokens
        is free of H and shared by the runs of an ensemble that read the same tokens.

        Args:
            tokens: Token ids (batch, H), H ≥ 2, any sentences.

        Raises:
            ValueError: as `forward`.

        Source:
            Derived here.
        """
        tokens = self._tokens(tokens)
        if self.scale is not None:
            return self._match_logits(match_tokens(self.task, tokens, self.scale.dtype))
        own, behind = self._attended(tokens)
        if self.value is None:
            return self._fixed_logits(own, behind[:, 0], tokens[:, -1] == 0, tokens[:, -2] == 0)
        assert self.feed_forward_weight is not None
        mixed = torch.cat([own, behind], dim=1)
        read = self._association(tokens)
        if self.feed_forward == "FA":
            read = read + mixed @ self.feed_forward_weight.mT
        return Logits(mixed @ self.value.mT, read)

    def token_count_logits(self, counts: Tensor, triggers: Tensor, outputs: Tensor) -> Logits:
        """Return the logits of a reparameterised model on sentences of the law, from their token counts alone.

        They equal those of `forward` on any sentence with these counts, whatever its order, at a cost free of H.

        Args:
            counts, triggers, outputs: As `sample_token_counts` returns them: (batch, N), (batch,), (batch,).

        Raises:
            ValueError: unless the model is ``"reparam"``.

        Source:
            Derived here.
        """
        scale = self._scale("token_count_logits")
        return self._match_logits(match_counts(self.task, counts, triggers, outputs, scale.dtype))

    def loss(self, tokens: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy (a scalar tensor) on sentences, from `lookup_logits`.

        With weights it is the exact expected loss over an enumerated population. Written as in
        `cross_entropy`: without noise value and gradient keep their relative precision however
        small they are. With noise the float64 gradient by λ is lost to rounding where e^λ > 1e16 (λ ≈ 37), as two
        likely labels must cancel; `label_count_loss` is exact there too.

        Args:
            tokens: (batch, H).
            labels: (batch,), or (batch, L) for L possible labels of each sentence.
            weights: Probabilities of sentence and label, of the shape of ``labels`` and adding up to 1; ``None`` for
                equal ones.

        Raises:
            ValueError: as `forward`, or if labels or weights do not fit.
        """
        if self.value is None or self.feed_forward_weight is None:
            total = self.lookup_logits(tokens).total
        else:
            # One product with V + κ F in place of two, which are most of the cost.
            weight = self.value + self.feed_forward_weight if self.feed_forward == "FA" else self.value
            tokens = self._tokens(tokens)
            total = torch.cat(self._attended(tokens), dim=1) @ weight.mT + self._association(tokens)
        return self._cross_entropy(total, labels, weights)

    def standard_loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Return the same by torch's own cross-entropy, as the published code has it: rounded where `loss` is not."""
        return torch.nn.functional.cross_entropy(self.lookup_logits(tokens).total, labels)

    def token_count_loss(self, counts: Tensor, triggers: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the `loss` on the sentences with these counts, for ``"reparam"`` models of any attention."""
        return self._cross_entropy(self.token_count_logits(counts, triggers, outputs).total, labels, None)

    def label_count_loss(self, counts: Tensor) -> Tensor:
        r"""Return the `loss` on a batch of the law from `sample_label_counts`, at a cost free of B, H and N.

        For ``"reparam"`` with linear or ReLU attention, whose logits on the law are λ at the output token, γ + κ λ at τ
        and 0 elsewhere:

        .. math:: ∑_q \frac{n_q}{B} \log(1 + (N-1) e^{-λ_q}), \quad \text{with noise, κ = 1:} \quad
                  \log(1 + (1-α) (N-2) e^{-λ}) - \frac{n_y}{B} \log(1-α) - \frac{n_τ}{B} \log α

        Value and slope keep their relative precision for every λ. ReLU attention has λ + 1e-8 in place of λ, and its
        weights of 1e-8 on the other positions, which depend on the sentence, are left out: at most H·1e-8 in a logit.

        Args:
            counts: (Q,), with noise (2,), as `sample_label_counts` returns them.

        Raises:
            ValueError: for other models, or counts of another shape.

        Source:
            Derived here.

        Example:
            >>> model = OneLayerTransformer.from_name("Reparam-Linear-FA", ReasoningTask())
            >>> round(model.label_count_loss(torch.full((5,), 100)).item(), 12)  # log 60
            4.094344562222
        """
        scale = self._scale("label_count_loss")
        if self.attention == "softmax":
            raise ValueError('label_count_loss needs linear or relu attention, got attention="softmax"')
        wanted = (2,) if self.task.noise else scale.shape
        if not isinstance(counts, Tensor) or counts.shape != wanted:
            raise ValueError(f"counts must have shape {tuple(wanted)}, got {_described(counts)}")
        slope = 1 if self.feed_forward == "FA" else 0
        top = activate(scale, self.attention)
        return label_count_loss(top, self.noise_logit, slope, self.task.vocab_size, counts)

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return W (2N, 2N), V (N, 2N) and F (N, 2N), whatever is trained; F = 0 where there is none."""
        n = self.task.vocab_size
        weight: Tensor | None = self.key_query
        value: Tensor | None = self.value
        feed_forward: Tensor | None = self.feed_forward_weight
        if weight is None:
            scale = self._scale("matrices")
            columns = torch.zeros(len(scale), 2 * n, dtype=scale.dtype, device=scale.device)
            index = torch.arange(len(scale), device=scale.device)
            columns[index, n + index] = 1
            if self.task.noise:
                columns[:, self.task.noise_token] = -1
            weight = pad(scale.unsqueeze(1) * columns, (0, 0, 0, 2 * n - len(scale)))
        if value is None or feed_forward is None:
            value = torch.eye(n, 2 * n, dtype=weight.dtype, device=weight.device)
            feed_forward = torch.zeros_like(value)
            if self.noise_logit is not None:
                row = pad(torch.stack([self.noise_logit, torch.ones_like(self.noise_logit)]).unsqueeze(1), (0, n - 1))
                feed_forward = pad(row.reshape(1, 2 * n), (0, 0, n - 1, 0))
        return weight, value, feed_forward

    def widened(self, parameterization: Literal["origin", "reparam-w"]) -> OneLayerTransformer:
        """Return the same function as a model that trains more of its matrices."""
        wider = OneLayerTransformer(
            self.task, parameterization=parameterization, attention=self.attention, feed_forward=self.feed_forward
        )
        state: dict[str, Any] = dict(zip(("key_query", "value", "feed_forward_weight"), self.matrices(), strict=True))
        state["noise_logit"] = self.noise_logit
        wider.load_state_dict({name: state[name].detach() for name in wider.state_dict()})
        return wider

    def _attended(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of m, each (batch, N), for the models that train W."""
        assert self.key_query is not None
        n = self.task.vocab_size
        query = self.key_query.index_select(0, tokens[:, -1]) + self.key_query.index_select(0, n + tokens[:, -2])
        return attend(query[:, :n], query[:, n:], tokens, self.attention)

    def _association(self, tokens: Tensor) -> Tensor:
        """F x_H, (batch, N), of a trained F."""
        assert self.feed_forward_weight is not None
        rows = self.feed_forward_weight.mT
        return rows.index_select(0, tokens[:, -1]) + rows.index_select(0, self.task.vocab_size + tokens[:, -2])

    def _match_logits(self, matches: Matches) -> Logits:
        own, behind = matches.attend(self._scale("match_logits"), self.attention)
        return self._fixed_logits(own, behind, matches.triggers == 0, matches.doubled)

    def _fixed_logits(self, own: Tensor, behind: Tensor, last: Tensor, before: Tensor) -> Logits:
        """Logits with V = [I 0] and the fixed F: ξ_F = γ (1[z_H = q] + κ m_q) + 1[z_{H-1} = q] + κ m~_q at τ."""
        if self.noise_logit is None:
            return Logits(own, torch.zeros_like(own))
        noise = self.noise_logit * last + before
        if self.feed_forward == "FA":
            noise = noise + self.noise_logit * own[:, 0] + behind
        return Logits(own, pad(noise.unsqueeze(1), (self.task.noise_token, 0)))

    def _cross_entropy(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        if not isinstance(labels, Tensor) or labels.ndim not in (1, 2) or len(labels) != len(logits):
            raise ValueError(f"labels must have shape ({len(logits)},) or ({len(logits)}, L), got {_described(labels)}")
        if weights is not None and (not isinstance(weights, Tensor) or weights.shape != labels.shape):
            raise ValueError(f"weights must have shape {tuple(labels.shape)} as the labels, got {_described(weights)}")
        return cross_entropy(logits, labels, weights)

    def _scale(self, method: str) -> Tensor:
        if self.scale is None:
            raise ValueError(f'{method} needs parameterization="reparam", got {self.parameterization!r}')
        return self.scale

    def _tokens(self, tokens: Any) -> Tensor:
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 2 or tokens.shape[1] < 2:
            raise ValueError(f"tokens must be an int64 tensor (batch, H) with H ≥ 2, got {_described(tokens)}")
        low, high = tokens.aminmax()
        try:
            bad = int(low) < 0 or int(high) >= self.task.vocab_size
        except RuntimeError:  # inside vmap values cannot steer Python
            return tokens
        if bad:
            raise ValueError(f"tokens must lie in 0…{self.task.vocab_size - 1}, got {int(low)}…{int(high)}")
        return tokens


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
