"""Identities at fixed weights, against every sentence of small tasks: Bayes risk, population losses, first steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import PAPER, exact_loss, small_tasks
from plumbline.analysis.verdict import Identity
from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    bayes_predictor,
    bayes_risk,
    feed_forward_gradient,
    key_query_gradient,
)
from plumbline.theory.reasoning.layer import ATTENTIONS, FEED_FORWARDS

if TYPE_CHECKING:
    import torch

    from plumbline.models.reasoning import OneLayerTransformer

SMALL = by_budget(
    {
        "N=7, H=6, Q=Y=2, no noise": ReasoningTask(7, 6, 2, 2),
        "N=7, H=7, Y=3, α=0.3": ReasoningTask(7, 7, 2, 3, 0.3),
    },
    {"N=6, H=7, Q=1, Y=2, α=0.8": ReasoningTask(6, 7, 1, 2, 0.8)},
)


@family.claim(
    statement="The smallest loss is H2(α), with P(y) = 1 − α for the token behind the trigger and P(τ) = α.",
    source=f"{PAPER}, Lemma 3.1 and section 5",
    rule=Identity,
    status="as published",
    rivals={
        "prior of the outputs": "H2(α) + (1−α) log Y and P(y) = (1−α)/Y: what is known without reading the sentence",
        "prior of all generic tokens": "the same with all generic tokens for outputs",
    },
    cases=SMALL,
)
def reasoning_bayes_risk(task: ReasoningTask, budget: Budget, seed: int) -> Evidence:
    from plumbline.models.reasoning import enumerated_sentences

    tokens, labels, weights = (part.numpy() for part in enumerated_sentences(task))
    sentences, group = np.unique(tokens, axis=0, return_inverse=True)
    joint = np.zeros((len(sentences), task.vocab_size))
    np.add.at(joint, (group.reshape(-1, 1), labels), weights)
    mass = joint.sum(axis=1, keepdims=True)
    law = joint / mass
    entropy = -float(np.sum(joint * np.log(np.where(law > 0, law, 1))))
    # The answer as a reader finds it: what follows the trigger earlier in the sentence and is not τ.
    behind = (sentences[:, :-1] == sentences[:, -1:]) & (sentences[:, 1:] != task.noise_token)
    answers = sentences[np.arange(len(sentences)), behind.argmax(axis=1) + 1]
    of_answer = law[np.arange(len(sentences)), answers]
    best = bayes_predictor(task)

    def prior(outputs: int) -> np.ndarray:
        share = (1 - task.noise) / outputs
        return np.array([bayes_risk(task) + (1 - task.noise) * math.log(outputs), share, share, task.noise])

    return Evidence(
        # Sums of some thousand probabilities.
        rule=Identity(1e-12, scale=1.0),
        measured=[entropy, of_answer.min(), of_answer.max(), law[:, task.noise_token].max()],
        predicted=[bayes_risk(task), best.output, best.output, best.noise_token],
        rivals=[prior(task.outputs), prior(len(task.generic_tokens))],
        note=f"{len(sentences)} sentences",
    )


@family.claim(
    statement="The closed-form population loss is the loss over all sentences, for every parameterisation, attention "
    "and feed-forward layer, at any scale and any noise estimate.",
    source=f"derived here; the limits λ → ∞ of linear and ReLU attention are {PAPER}, Lemma 3.1",
    rule=Identity,
    status="derived here",
    rivals={
        "the other feed-forward layer": "the loss of F for FA and of FA for F",
        "γ omitted": "a feed-forward layer built for α̂ = 1/2, whose constant is 0",
        "one competitor more": "a vocabulary of N + 1",
        "hard attention": "the linear loss at scale 1 for softmax attention",
    },
    cases=by_budget(
        {"4 random tasks": (1, 4)}, {"12 random tasks": (2, 12)}, {"60 random tasks": (3, 60)}
    ),
)  # fmt: skip
def enumerated_population_loss(case: tuple[int, int], budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.reasoning import OneLayerTransformer, enumerated_sentences

    rng = np.random.default_rng((seed, case[0]))
    measured: list[float] = []
    predicted: list[float] = []
    rivals: list[list[float]] = [[], [], [], []]
    for task in small_tasks(case[0] + 1000 * seed, case[1]):
        sentences = enumerated_sentences(task)
        for attention in ATTENTIONS:
            for kind in FEED_FORWARDS:
                estimate = float(rng.uniform(0.1, 0.9)) if task.noise else None
                scale = float(rng.uniform(0.0, 8.0))
                model = OneLayerTransformer(
                    task, parameterization="reparam", attention=attention, feed_forward=kind, noise_estimate=estimate
                )
                with torch.no_grad():
                    assert model.scale is not None
                    model.scale.fill_(scale)
                    models = [model, model.widened("reparam-w"), model.widened("origin")]
                    measured += [model.loss(*sentences).item() for model in models]
                wider = replace(task, vocab_size=task.vocab_size + 1)
                layer = Layer(attention, kind, estimate)
                predicted += [exact_loss(task, scale, layer)] * 3
                hard = (1.0, replace(layer, attention="linear")) if attention == "softmax" else (scale, layer)
                wrong = [
                    exact_loss(task, scale, replace(layer, feed_forward="FA" if kind == "F" else "F")),
                    exact_loss(task, scale, replace(layer, noise_estimate=0.5 if task.noise else None)),
                    exact_loss(wider, scale, layer),
                    exact_loss(task, *hard),
                ]
                for losses, loss in zip(rivals, wrong, strict=True):
                    losses += [loss] * 3
    # Sums over up to 1e5 sentences in float64, and softmax expectations good to some 1e-14.
    return Evidence(rule=Identity(1e-12), measured=measured, predicted=predicted, rivals=rivals)


def _gradient(model: OneLayerTransformer, parameter: torch.Tensor | None) -> np.ndarray:
    """The exact population gradient at the model's weights."""
    import torch

    from plumbline.models.reasoning import enumerated_sentences

    assert parameter is not None
    loss = model.loss(*enumerated_sentences(model.task))
    return torch.autograd.grad(loss, parameter)[0].numpy()


@family.claim(
    statement="At W = 0 the gradient in the triggers' rows of W holds the in-context look-up −(1−1/N)/Q, the prior of "
    "the trained outputs, and what surrounds both.",
    source="derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "look-up alone": "only the entry (E(q), Ẽ(q)), as the reparameterised model trains it",
        "no output prior": "trained outputs like any other generic token",
    },
    cases=by_budget(
        {"N=7, H=6, Q=Y=2": ReasoningTask(7, 6, 2, 2), "N=8, H=5, Q=1, Y=3": ReasoningTask(8, 5, 1, 3)},
        {"N=9, H=6, Q=3, Y=2": ReasoningTask(9, 6, 3, 2)},
    ),
)
def first_step_of_attention(task: ReasoningTask, budget: Budget, seed: int) -> Evidence:
    from plumbline.models.reasoning import OneLayerTransformer

    model = OneLayerTransformer(task, parameterization="reparam-w", attention="linear")
    size, triggers = task.vocab_size, np.array(task.trigger_tokens)
    predicted = key_query_gradient(task)
    alone, without = np.zeros_like(predicted), predicted.copy()
    alone[triggers, size + triggers] = predicted[triggers, size + triggers]
    outputs = np.array(task.output_tokens)
    for half in (0, size):
        without[:, half + outputs] = predicted[:, half + task.unseen_tokens[0]][:, None]
    return Evidence(
        rule=Identity(1e-12),
        measured=_gradient(model, model.key_query)[triggers],
        predicted=predicted,
        rivals=[alone, without],
    )


@family.claim(
    statement="At zero weights the feed-forward layer of every unconstrained model starts towards the labels' prior: "
    "the noise token first where α > (1−α)/Y.",
    source="derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "prior alone": "label and last-but-one token taken as independent",
        "triggers never vary": "only the columns of the last token",
    },
    cases=SMALL,
)
def first_step_of_feed_forward(task: ReasoningTask, budget: Budget, seed: int) -> Evidence:
    from plumbline.models.reasoning import OneLayerTransformer, enumerated_sentences

    measured = []
    for attention in ATTENTIONS:
        for kind in FEED_FORWARDS if attention == "linear" else ("F",):
            model = OneLayerTransformer(task, attention=attention, feed_forward=kind)
            measured.append(_gradient(model, model.feed_forward_weight))
    predicted = feed_forward_gradient(task)
    size = task.vocab_size
    # The columns of the last token sum to 1/N - P(label).
    push = predicted[:, :size].sum(axis=1)
    tokens, _, weights = enumerated_sentences(task)
    before = np.bincount(tokens[:, -2].numpy(), weights.sum(dim=1).numpy(), size)
    independent, last = predicted.copy(), predicted.copy()
    independent[:, size:] = np.outer(push, before)
    last[:, size:] = 0

    def repeated(gradient: np.ndarray) -> Any:
        return np.stack([gradient] * len(measured))

    return Evidence(
        rule=Identity(1e-12),
        measured=np.stack(measured),
        predicted=repeated(predicted),
        rivals=[repeated(independent), repeated(last)],
    )
