"""Speed against a plain textbook implementation: same task, same batch, same run; prints ratios of medians.

    python benchmarks/reasoning.py            # everything, about a minute
    python benchmarks/reasoning.py --only step sentences

The textbook model embeds every token as a one-hot vector of width 128 and multiplies by the full matrices, the linear
activation being a product with the identity, as in the published experiments; the textbook sampler draws sentence by
sentence. Both sides use one torch thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from plumbline.models.normalized_gd import NormalizedGD
from plumbline.models.reasoning import OneLayerTransformer, sample_label_counts, sample_sentences, sample_token_counts
from plumbline.theory.reasoning import ReasoningTask, replay_normalized_gd

TASK = ReasoningTask(noise=0.2)
BATCH = 512
WIDTH = 128


class Textbook(nn.Module):
    """x_h = E(z_h) + E~(z_{h-1}), s = x_H W X, ξ = U V m + U F (x_H + κ m), all of width 128."""

    def __init__(self, task: ReasoningTask, attention: str, slope: int, dtype: torch.dtype, fixed: bool) -> None:
        super().__init__()
        self.attention, self.slope, self.fixed, self.n = attention, slope, fixed, task.vocab_size
        basis = torch.eye(WIDTH, dtype=dtype)
        self.own, self.shifted = basis[: self.n], basis[self.n : 2 * self.n]
        if fixed:
            self.scale = nn.Parameter(torch.ones(1, dtype=dtype))
            direction = self.own[0] * np.log(task.noise / (1 - task.noise)) + self.shifted[0]
            self.rank_one = torch.outer(self.own[0], self.shifted[0] - self.own[-1])
            self.association, self.value = torch.outer(self.own[-1], direction), basis
            return
        draws = torch.Generator().manual_seed(0)
        for name in ("key_query", "value", "association"):
            start = 0.1 * torch.randn(WIDTH, WIDTH, generator=draws, dtype=dtype)
            self.register_parameter(name, nn.Parameter(start))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.own[tokens]
        x[:, 1:] += self.shifted[tokens[:, :-1]]
        last = x[:, -1]
        weight = self.scale * self.rank_one if self.fixed else self.key_query
        scores = last.unsqueeze(1) @ (x @ weight.T).transpose(1, 2)
        if self.attention == "linear":
            weights = nn.functional.linear(scores, torch.eye(tokens.shape[1], dtype=x.dtype))
        else:
            weights = (scores + 1e-8).relu() if self.attention == "relu" else scores.softmax(-1)
        mixed = (weights @ x).squeeze(1)
        read = self.own @ (self.value @ mixed.unsqueeze(2))
        read = read + self.own @ (self.association @ (last + self.slope * mixed).unsqueeze(2))
        return read.squeeze(2)


def textbook_sentences(task: ReasoningTask, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Sentence by sentence, the noise bigram by rejection."""
    sentences, labels = [], []
    for _ in range(batch):
        trigger = int(rng.integers(len(task.sentence_triggers)))
        output = int(rng.integers(task.output_tokens.start, task.output_tokens.stop))
        sentence = rng.integers(task.triggers, task.vocab_size - 1, task.sentence_length).tolist()
        position = int(rng.integers(task.sentence_length - 2))
        sentence[-1] = sentence[position] = trigger
        sentence[position + 1] = output
        label = output
        if task.noise:
            other = position
            while abs(other - position) < 2:
                other = int(rng.integers(task.sentence_length - 2))
            sentence[other], sentence[other + 1] = trigger, task.noise_token
            label = task.noise_token if rng.random() < task.noise else output
        sentences.append(sentence)
        labels.append(label)
    return torch.tensor(sentences), torch.tensor(labels)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)


def step_times() -> None:
    """Forward and backward pass of the cross-entropy of one batch."""
    tokens, labels, _ = sample_sentences(TASK, BATCH, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.float64):
        for parameterization in ("Origin", "Reparam"):
            for attention in ("Linear", "Relu", "Softmax"):
                fixed = parameterization == "Reparam"
                plain = Textbook(TASK, attention.lower(), 1, dtype, fixed)
                ours = OneLayerTransformer.from_name(f"{parameterization}-{attention}-FA", TASK, dtype=dtype)
                copy(plain, ours)

                def textbook(plain: Textbook = plain) -> Tensor:
                    plain.zero_grad()
                    loss = nn.functional.cross_entropy(plain(tokens), labels)
                    loss.backward()
                    return loss

                def lookup(ours: OneLayerTransformer = ours) -> Tensor:
                    ours.zero_grad()
                    loss = ours.loss(tokens, labels)
                    loss.backward()
                    return loss

                torch.testing.assert_close(textbook(), lookup())
                old, new = seconds(textbook, 5), seconds(lookup, 50)
                print(
                    f"forward + backward, {ours.name}, {str(dtype)[6:]}: {old * 1e3:.0f} / {new * 1e3:.2f} ms "
                    f"= {old / new:.0f}×"
                )


def copy(plain: Textbook, ours: OneLayerTransformer) -> None:
    """Give the model the parameters of the textbook model."""
    n = ours.task.vocab_size
    with torch.no_grad():
        if plain.fixed:
            ours.scale.copy_(plain.scale)
            return
        ours.key_query.copy_(plain.key_query[: 2 * n, : 2 * n])
        ours.value.copy_(plain.value[:n, : 2 * n])
        ours.feed_forward_weight.copy_(plain.association[:n, : 2 * n])


def sampling() -> None:
    """One batch of sentences; and what suffices of them."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    old = seconds(lambda: textbook_sentences(TASK, BATCH, rng), 7)
    new = seconds(lambda: sample_sentences(TASK, BATCH, generator=generator), 200)
    print(f"{BATCH} sentences: {old * 1e3:.1f} / {new * 1e3:.2f} ms = {old / new:.0f}×")
    counts = seconds(lambda: sample_token_counts(TASK, BATCH, generator=generator), 200)
    steps = seconds(lambda: sample_label_counts(TASK, BATCH, size=(2000,), generator=generator), 20)
    print(f"their token counts: {counts * 1e3:.2f} ms; the label counts of 2,000 batches: {steps * 1e3:.2f} ms")


def training() -> None:
    """2,000 steps of normalised gradient descent on fresh batches: theory's exact replay, and a model by its counts."""
    for task in (ReasoningTask(), TASK):
        counts = sample_label_counts(task, BATCH, size=(2000,), generator=torch.Generator().manual_seed(0))
        array = counts.numpy()

        def run(task: ReasoningTask = task, counts: Tensor = counts) -> None:
            model = OneLayerTransformer.from_name("Reparam-Linear-FA", task)
            optimizer = NormalizedGD(model.parameters(), lr=0.1)
            for batch in counts:
                optimizer.zero_grad()
                model.label_count_loss(batch).backward()
                optimizer.step()

        exact = seconds(lambda task=task, array=array: replay_normalized_gd(task, array, 0.1), 5)  # type: ignore[misc]
        trained = seconds(run, 1)
        print(
            f"2,000 steps, noise {task.noise}: exact replay {exact * 1e3:.1f} ms, "
            f"a model by label counts {trained:.2f} s"
        )


PARTS = {"step": step_times, "sentences": sampling, "training": training}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    torch.set_num_threads(1)
    for part in parser.parse_args().only:
        PARTS[part]()
