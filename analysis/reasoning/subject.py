"""A given one-layer transformer of in-context reasoning: its losses, what each layer says, and the claims on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from plumbline.analysis.reasoning import family
from plumbline.analysis.subject.model_report import (
    STANDARD_ERRORS,
    Finding,
    ModelClaim,
    ModelReport,
    Reference,
    claim_on_model,
    held,
    report_on,
)
from plumbline.analysis.subject.reader import Reader
from plumbline.analysis.verdict import Identity, Verdict
from plumbline.analysis.verdict.levels import LEVELS
from plumbline.models.reasoning import MODEL_NAMES, OneLayerTransformer, sample_sentences
from plumbline.models.training.draws import generator
from plumbline.models.weights import fill
from plumbline.theory.estimate import Estimate
from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    bayes_risk,
    enumerate_population,
    feed_forward_floor,
    layer_logits,
    limit_loss,
    minimum_loss,
    optimal_scale,
    population_loss,
    unseen_output_bound,
)
from plumbline.theory.reasoning.layer import RELU_OFFSET

SENTENCES, BLOCK, MAX_ENUMERATED = 4096, 512, 50_000
ROUNDING = 1e-9


def build(weights: Mapping[str, Tensor], task: ReasoningTask, options: Mapping[str, Any]) -> OneLayerTransformer:
    """The module of these weights; what kind of attention and of feed-forward layer it is must be told."""
    if "name" not in options:
        raise ValueError(
            "model must name a reasoning model, as the same weights fit several: "
            f'{{"name": …}}, one of {", ".join(MODEL_NAMES)}'
        )
    return fill(OneLayerTransformer.from_name(options["name"], task), weights)


def report(model: OneLayerTransformer, task: ReasoningTask, *, margin: float, seed: int) -> ModelReport:
    """What is said about a one-layer transformer on a reasoning task, see `plumbline.analysis.check_model`."""
    own = model.task
    alike = [getattr(own, name) == getattr(task, name) for name in ("vocab_size", "triggers")]
    if not all(alike) or bool(own.noise) != bool(task.noise):
        raise ValueError(f"task must have the vocabulary, triggers and noise (or none) of the model's, got {task}")
    reading = _ModelReading(model, task, margin, seed)
    return report_on(reading, _claims, family="reasoning", quantity="cross-entropy in nats", loss=reading.loss)


class _Answers(NamedTuple):
    """What the model says on sentences: all of a small task with their probabilities, or a sample."""

    loss: Estimate
    output: Estimate
    """Mean P(y)."""
    noise_token: Estimate
    smallest_output_loss: float
    """Of −log P(y)."""
    logits: np.ndarray
    """Means: of attention at y and its largest, of feed-forward at τ and its largest."""
    logit_errors: np.ndarray
    roles: tuple[Estimate, Estimate]
    """Shares of sentences where attention is largest at y, and feed-forward at τ."""
    largest_sum: float
    """Of |sum of all logits|."""

    def logit(self, index: int) -> Estimate:
        """One of the means with its error."""
        return Estimate(float(self.logits[index]), float(self.logit_errors[index]), self.loss.method)


class _ModelReading:
    """What is computed once about a model and its task, and what could not be."""

    def __init__(self, model: OneLayerTransformer, task: ReasoningTask, margin: float, seed: int) -> None:
        self.model, self.task, self.margin, self.seed = model, task, margin, seed
        self.missing: list[str] = []
        self.noisy = task.noise > 0
        self.reads_attention = model.feed_forward == "FA" or not self.noisy
        self.scales = None if model.scale is None else model.scale.detach().numpy()
        self.estimate = None if model.noise_logit is None else float(torch.sigmoid(model.noise_logit))
        self.layer = Layer(model.attention, model.feed_forward, self.estimate)
        self.trivial = math.log(task.vocab_size)
        self.bayes = bayes_risk(task)
        self.trained = self._answers(unseen=False)
        self.unseen = self._answers(unseen=True) if task.unseen_tokens else None
        if self.unseen is None:
            self.missing.append("unseen outputs: all generic tokens of the task are trained outputs")
        self.loss = self.formula or self.trained.loss
        if self.scales is None:
            self.missing.append("position on the course of training: in closed form for reparameterised models only")

    @cached_property
    def formula(self) -> Estimate | None:
        """The closed-form loss of a reparameterised model: the mean over the triggers of that at their scales."""
        if self.scales is None:
            return None
        offset = RELU_OFFSET if self.model.attention == "relu" else 0.0
        losses = population_loss(self.task, self.scales, self.layer, relu_offset=offset)
        return Estimate(float(np.mean(losses)), 0.0, "exact, closed form")

    @cached_property
    def optimum(self) -> Estimate | None:
        """The least loss of the model's kind."""
        if self.scales is not None:
            return Estimate(minimum_loss(self.task, self.layer), 0.0, "exact, over the scale")
        if (self.model.parameterization, self.model.attention, self.model.feed_forward) == ("origin", "linear", "F"):
            return Estimate(feed_forward_floor(self.task), 0.0, "exact, trained from zero")
        return None

    def references(self) -> list[Reference]:
        found = [Reference("uniform answer", Estimate(self.trivial, 0.0, "exact"))]
        if self.optimum is not None:
            found.append(Reference("optimum", self.optimum))
        else:
            self.missing.append(f"optimum: {self.model.name} has no closed form")
        return [*found, Reference("Bayes risk", Estimate(self.bayes, 0.0, "exact"))]

    def findings(self) -> list[Finding]:
        trained, unseen = self.trained, self.unseen
        found = [
            _found("attention says the output token (share of sentences)", trained.roles[0]),
            _found("attention's logit of the output token", trained.logit(0)),
            _found("P(output token)", trained.output),
        ]
        if self.noisy:
            found += [
                _found("feed-forward says the noise token (share of sentences)", trained.roles[1]),
                _found("feed-forward's logit of the noise token", trained.logit(2)),
                _found("P(noise token)", trained.noise_token),
                Finding("Bayes P(output token), P(noise token)", np.array([1 - self.task.noise, self.task.noise])),
            ]
        if unseen is not None:
            loss = unseen.loss
            found += [
                _found("loss on unseen outputs", loss),
                _found("P(output token) on unseen outputs", unseen.output),
                Finding("unseen outputs", self._on_unseen(loss)),
            ]
        found += [Finding(f"{name} along the published direction", share) for name, share in self._along().items()]
        if self.scales is not None:
            found.append(Finding("scales", self.scales))
            # Normalised descent from zero moves all scales alike, and their vector by the learning rate each step.
            length = float(np.linalg.norm(self.scales))
            off = float(np.abs(self.scales - length / len(self.scales) ** 0.5).max())
            found.append(Finding("position on the course (steps × learning rate)", length))
            found.append(Finding("farthest scale from the course", off))
            best = optimal_scale(self.task, self.layer)
            found.append(Finding("scale of the optimum", best if math.isfinite(best) else "infinite"))
        return found

    def _on_unseen(self, loss: Estimate) -> str:
        assert self.unseen is not None
        off = abs(loss.value - self.trained.loss.value) - STANDARD_ERRORS * math.hypot(
            loss.error, self.trained.loss.error
        )
        if self.unseen.output.value <= 1.001 / self.task.vocab_size:
            return "not answered: at chance or below"
        return (
            "answered like trained ones" if off <= self.margin * self.trivial else "answered, but not like trained ones"
        )

    def _along(self) -> dict[str, float]:
        """Cosines of the trained matrices with what the reparameterised models have in their place."""
        if self.model.key_query is None:
            return {}
        published = OneLayerTransformer(self.task, parameterization="reparam")
        with torch.no_grad():
            assert published.scale is not None
            published.scale.fill_(1.0)
            pairs = {"W": (self.model.matrices()[0], published.matrices()[0])}
            if self.model.value is not None:
                pairs["V"] = (self.model.value, published.matrices()[1])
        return {name: float(_cosine(got, want)) for name, (got, want) in pairs.items()}

    @torch.no_grad()
    def _answers(self, *, unseen: bool) -> _Answers:
        tokens, outputs, weights = self._sentences(unseen)
        noise_token, noise = self.task.noise_token, self.task.noise
        rows = []
        for part, right in zip(tokens.split(BLOCK), outputs.split(BLOCK), strict=True):
            logits = self.model.lookup_logits(part)
            law = logits.total.log_softmax(1)
            at = right.unsqueeze(1)
            said = law.gather(1, at).squeeze(1)
            loss = -(1 - noise) * said - (noise * law[:, noise_token] if noise else 0)
            attention, forward = logits.attention, logits.feed_forward
            picked, told = attention.gather(1, at).squeeze(1), forward[:, noise_token]
            # On top alone: where all logits are equal a layer says nothing.
            first = picked > attention.scatter(1, at, -math.inf).amax(1)
            second = told > forward[:, :noise_token].amax(1)
            columns = [loss, said.exp(), law[:, noise_token].exp(), -said, picked, attention.amax(1), told]
            columns += [forward.amax(1), first.double(), second.double(), logits.total.sum(1).abs()]
            rows.append(torch.stack(columns, 1))
        values = torch.cat(rows).numpy()
        mean = (weights @ values) if weights is not None else values.mean(0)
        size = len(values)
        error = 0.0 * mean if weights is not None else values.std(axis=0, ddof=1) / size**0.5
        if weights is None:  # of shares by the rule of succession: a share of all or none is no certainty
            shares = (size * mean[8:10] + 1) / (size + 2)
            error[8:10] = (shares * (1 - shares) / size) ** 0.5
        method = (
            "exact, over all sentences" if weights is not None else f"mean over {size} sentences, one standard error"
        )

        def average(column: int) -> Estimate:
            return Estimate(float(mean[column]), float(error[column]), method)

        return _Answers(
            loss=average(0),
            output=average(1),
            noise_token=average(2),
            smallest_output_loss=float(values[:, 3].min()),
            logits=mean[4:8],
            logit_errors=error[4:8],
            roles=(average(8), average(9)),
            largest_sum=float(values[:, 10].max()),
        )

    def _sentences(self, unseen: bool) -> tuple[Tensor, Tensor, np.ndarray | None]:
        """Sentences, their output tokens, and their probabilities; without probabilities they are a sample."""
        if sentence_count(self.task, unseen) <= MAX_ENUMERATED:
            all_of = enumerate_population(self.task, unseen=unseen)
            return torch.as_tensor(all_of.sentences), torch.as_tensor(all_of.outputs), all_of.probabilities
        drawn = sample_sentences(self.task, SENTENCES, unseen=unseen, generator=generator(self.seed, int(unseen), 0))
        return drawn.tokens, drawn.outputs, None


def _found(name: str, number: Estimate) -> Finding:
    return Finding(name, number.value, number.error)


def sentence_count(task: ReasoningTask, unseen: bool) -> float:
    """The number of sentences of a task, as `enumerate_population` has it; infinite where a float has no room."""
    length, generic = task.sentence_length, len(task.generic_tokens)
    fixed, places = (5, (length - 3) * (length - 4)) if task.noise else (3, length - 2)
    outputs = len(task.unseen_tokens if unseen else task.output_tokens)
    log = math.log(len(task.sentence_triggers) * outputs * places) + (length - fixed) * math.log(generic)
    return math.exp(log) if log < 700 else math.inf


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    size = first.norm() * second.norm()
    return (first * second).sum() / size if size else size


def _claims(reading: _ModelReading) -> list[ModelClaim]:
    model, task = reading.model, reading.task
    kind = {"a reparameterised model": model.parameterization == "reparam"}
    scaled = {**kind, "linear or ReLU attention": model.attention != "softmax"}
    noisy = {"label noise": reading.noisy}
    whole = {"a feed-forward layer that reads attention (FA), or no noise": reading.reads_attention}
    alone = {"a feed-forward layer that reads the last token alone (F)": model.feed_forward == "F"}
    free = {"an unconstrained model (Origin)": model.parameterization == "origin"}
    unseen = {"unseen outputs": reading.unseen is not None}
    right = {
        "the noise of the task in the feed-forward layer": reading.estimate is None
        or _close(reading.estimate, task.noise)
    }
    linear_f = {**free, "linear attention and F": (model.attention, model.feed_forward) == ("linear", "F")}
    positive = {"scales of 0 or more": reading.scales is not None and bool((reading.scales >= 0).all())}

    def least(name: str, conditions: dict[str, bool], best: float) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _at(reading, best))

    return [
        claim_on_model("reasoning-bayes-risk", {}, lambda: _not_below_bayes(reading)),
        least("reparameterised-reach-bayes", {**scaled, **whole, **right}, reading.bayes),
        least("lone-feed-forward-gap", {**scaled, **noisy, **alone, **right}, _minimum(reading)),
        least("softmax-limit", {**kind, "softmax attention": model.attention == "softmax"}, _softmax_limit(reading)),
        least("origin-linear-f-floor", linear_f, _minimum(reading)),
        claim_on_model("enumerated-population-loss", kind, lambda: _formula_holds(reading)),
        claim_on_model("layer-roles", {**scaled, **noisy, **whole, **positive}, lambda: _roles(reading)),
        claim_on_model("reparameterised-generalise", {**scaled, **unseen}, lambda: _generalises(reading)),
        claim_on_model("unconstrained-do-not-generalise", {**free, **unseen}, lambda: _not_answered(reading)),
        claim_on_model("unconstrained-logits-sum-to-zero", free, lambda: _sums(reading)),
        claim_on_model(
            "trained-attention-in-between",
            {"W alone is trained": model.parameterization == "reparam-w", **noisy, **unseen},
            lambda: _in_between(reading),
        ),
    ]


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-6


def _minimum(reading: _ModelReading) -> float:
    return reading.optimum.value if reading.optimum is not None else math.nan


def _softmax_limit(reading: _ModelReading) -> float:
    return limit_loss(reading.task, replace(reading.layer, attention="softmax"))


def _at(reading: _ModelReading, best: float) -> Verdict:
    scale = reading.trivial - best
    margin = reading.margin**2
    return held("loss", reading.loss, "equals", best, margin=margin, scale=scale if scale > 0 else best)


def _not_below_bayes(reading: _ModelReading) -> Verdict:
    return held("loss", reading.loss, "at least", reading.bayes, margin=ROUNDING, scale=reading.trivial)


def _formula_holds(reading: _ModelReading) -> Verdict:
    """The closed form against the loss over sentences."""
    assert reading.formula is not None
    margin = 1e-9 if not reading.trained.loss.error else 1e-3
    return held(
        "loss over sentences",
        reading.trained.loss,
        "equals",
        reading.formula.value,
        margin=margin,
        scale=reading.trivial,
    )


def _roles(reading: _ModelReading) -> Verdict:
    """The mean logits of the layers against those of the closed form at the model's scale."""
    assert reading.scales is not None
    said = layer_logits(reading.task, float(reading.scales[0]), noise_estimate=reading.estimate)
    predicted = [said.attention_output, said.attention_largest, said.feed_forward_noise, said.feed_forward_largest]
    # ReLU attention gives 1e-8 to each position.
    offset = 2 * reading.task.sentence_length * RELU_OFFSET * max(1.0, float(np.abs(reading.scales).max()))
    tolerance = ROUNDING + (offset if reading.model.attention == "relu" else 0.0)
    return Identity(tolerance, scale=1.0).judge(reading.trained.logits, predicted, **LEVELS)


def _generalises(reading: _ModelReading) -> Verdict:
    assert reading.unseen is not None
    assert reading.formula is not None
    # The published claim's own margin: the offset of ReLU attention moves logits by H times 1e-8.
    return held(
        "loss on unseen outputs",
        reading.unseen.loss,
        "equals",
        reading.formula.value,
        margin=1e-5,
        scale=reading.trivial,
    )


def _not_answered(reading: _ModelReading) -> Verdict:
    assert reading.unseen is not None
    bound = unseen_output_bound(reading.task, attention=reading.model.attention).output_loss
    smallest = Estimate(reading.unseen.smallest_output_loss, 0.0, reading.unseen.loss.method)
    return held(
        "smallest −log P(unseen output)",
        smallest,
        "at least",
        bound,
        margin=ROUNDING,
        scale=reading.trivial,
    )


def _sums(reading: _ModelReading) -> Verdict:
    largest = [reading.trained.largest_sum, 0.0 if reading.unseen is None else reading.unseen.largest_sum]
    # Of weights that were kept in float32, too.
    return Identity(1e-5, scale=float(reading.task.vocab_size)).judge(largest, [0.0, 0.0], **LEVELS)


def _in_between(reading: _ModelReading) -> Verdict:
    assert reading.unseen is not None
    best = unseen_output_bound(reading.task, attention="linear").loss
    return held(
        "loss on unseen outputs",
        reading.unseen.loss,
        "at most",
        best,
        margin=0.0,
        scale=reading.trivial,
    )


family.reads(
    Reader(
        models=(OneLayerTransformer,),
        build=build,
        report=report,
        options={"name": "a published name, one of plumbline.models.reasoning.MODEL_NAMES"},
    )
)
