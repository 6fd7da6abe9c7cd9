"""Slow and obviously correct references for in-context reasoning: sentences one by one, models as dense matrices."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np

from plumbline.theory.reasoning import Layer, Population, ReasoningTask


def sentence_law(task: ReasoningTask, *, unseen: bool = False) -> Counter[tuple[tuple[int, ...], int]]:
    """{(sentence, output): probability} in rationals, by following the generator through all of its choices."""
    law: Counter[tuple[tuple[int, ...], int]] = Counter()
    length, alphabet = task.sentence_length, list(task.generic_tokens)
    triggers = [0] if task.noise else list(range(task.triggers))
    outputs = alphabet[task.outputs :] if unseen else alphabet[: task.outputs]
    places = range(length - 2)
    for q, y, place in itertools.product(triggers, outputs, places):
        others = [b for b in places if abs(b - place) >= 2] if task.noise else [None]
        for other in others:
            chance = Fraction(1, len(triggers) * len(outputs) * len(places) * len(others))
            for base in itertools.product(alphabet, repeat=length):
                z = list(base)
                z[-1], z[place], z[place + 1] = q, q, y
                if other is not None:
                    z[other], z[other + 1] = q, task.vocab_size - 1
                law[tuple(z), y] += chance / len(alphabet) ** length
    return law


def embed(task: ReasoningTask, sentences: np.ndarray) -> np.ndarray:
    """x_h = E(z_h) + Ẽ(z_{h−1}), one-hot (count, H, 2N); the first token has no predecessor."""
    eye = np.eye(2 * task.vocab_size)
    x = eye[sentences]
    x[:, 1:] += eye[task.vocab_size + sentences[:, :-1]]
    return x


def attention_scores(x: np.ndarray, key_query: np.ndarray, attention: str, offset: float = 0.0) -> np.ndarray:
    """Attention of the last token to every position (count, H)."""
    scores = np.einsum("bi,ij,bhj->bh", x[:, -1], key_query, x)
    if attention == "linear":
        return scores
    if attention == "relu":
        return np.maximum(scores + offset, 0)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def layers(
    x: np.ndarray,
    key_query: np.ndarray,
    value: np.ndarray,
    feed_forward: np.ndarray,
    attention: str,
    kappa: float,
    offset: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the attention and of the feed-forward layer (count, N), before unembedding to the first N entries."""
    mixed = np.einsum("bh,bhi->bi", attention_scores(x, key_query, attention, offset), x)
    vocab = x.shape[-1] // 2
    return (mixed @ value.T)[:, :vocab], ((x[:, -1] + kappa * mixed) @ feed_forward.T)[:, :vocab]


def reparameterised_weights(
    task: ReasoningTask, scale: float, estimate: float | None = None, value_scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Key-query, value and feed-forward matrices (2N, 2N) of the reparameterised model."""
    n = task.vocab_size
    eye = np.eye(2 * n)
    e, before = eye[:n], eye[n:]
    if not task.noise:
        key_query = scale * sum(np.outer(e[q], before[q]) for q in range(task.triggers))
        return key_query, value_scale * eye, np.zeros_like(eye)
    estimate = task.noise if estimate is None else estimate
    gamma = np.log(estimate / (1 - estimate))
    key_query = scale * np.outer(e[0], before[0] - e[n - 1])
    return key_query, value_scale * eye, np.outer(e[n - 1], gamma * e[0] + value_scale * before[0])


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log softmax over the vocabulary."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def mean_loss(population: Population, logits: np.ndarray) -> float:
    """Cross-entropy over sentences and labels."""
    return -float(population.probabilities @ np.sum(population.label_probabilities * log_probabilities(logits), axis=1))


def model_logits(
    population: Population,
    scale: float,
    layer: Layer,
    *,
    tied: bool = False,
    offset: float = 0.0,
) -> np.ndarray:
    """Logits (count, N) of the reparameterised model on every sentence."""
    weights = reparameterised_weights(population.task, scale, layer.noise_estimate, scale if tied else 1.0)
    x = embed(population.task, population.sentences)
    return sum(layers(x, *weights, layer.attention, float(layer.feed_forward == "FA"), offset))
