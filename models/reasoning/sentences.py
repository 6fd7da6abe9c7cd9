"""Sentences of in-context reasoning, and what suffices of them, drawn without a loop over sentences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from plumbline.models.tensors import placement
from plumbline.theory import checks
from plumbline.theory.reasoning.enumeration import enumerate_population
from plumbline.theory.reasoning.task import ReasoningTask, check_task


class Sentences(NamedTuple):
    """A batch of sentences.

    Attributes:
        tokens: (batch, H), the token ids.
        labels: (batch,), the next token: the output token, or the noise token.
        outputs: (batch,), the output token y that followed the trigger in the sentence, whatever the label.
    """

    tokens: Tensor
    labels: Tensor
    outputs: Tensor


class WeightedSentences(NamedTuple):
    """Sentences with all their possible labels.

    Attributes:
        tokens: (batch, H).
        labels: (batch, L), the output token, with noise also the noise token (L = 2).
        weights: (batch, L), the probability of sentence and label.
    """

    tokens: Tensor
    labels: Tensor
    weights: Tensor


class TokenCounts(NamedTuple):
    """What reparameterised attention of any kind takes from a sentence of the law: its tokens without their order.

    Attributes:
        counts: (batch, N), how often each token occurs in the sentence.
        triggers: (batch,), the last token.
        outputs: (batch,), the token y that followed the trigger.
        labels: (batch,), the next token.
    """

    counts: Tensor
    triggers: Tensor
    outputs: Tensor
    labels: Tensor


def sample_sentences(
    task: ReasoningTask,
    batch: int,
    *,
    unseen: bool = False,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> Sentences:
    """Draw independent sentences with the law of the task, see `ReasoningTask`.

    The noise bigram is drawn from the positions left to it by numbering them, not by rejection. Uniform integers are
    torch's: 32 random bits modulo their range, a relative error of at most range/2³².

    Args:
        task: The data distribution.
        batch: Number of sentences, from 1 up.
        unseen: Whether the output token is one of `task.unseen_tokens` rather than of `task.output_tokens`.
        generator: Source of all randomness; the same state gives the same sentences.
        device: Device of the result; ``None`` is the generator's.

    Raises:
        ValueError: naming the parameter, its value and what is allowed; also if there is no unseen token.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> tokens, labels, outputs = sample_sentences(ReasoningTask(noise=0.2), 3, generator=generator)
        >>> tokens.shape, labels.shape
        (torch.Size([3, 256]), torch.Size([3]))
    """
    draw = _Draw(task, batch, unseen, generator, device)
    length = task.sentence_length
    tokens = draw.generic(length)
    tokens[:, -1:] = draw.triggers
    position = draw.below(length - 2)
    tokens.scatter_(1, position, draw.triggers).scatter_(1, position + 1, draw.outputs)
    if task.noise:
        # The positions b with |b - position| ≥ 2 in a row: those before, then those after, which are three further on
        # (two, where the bigram opens the sentence). There is one more of them where it opens or closes it.
        at_end = (position == 0) | (position == length - 3)
        number = torch.where(at_end, draw.below(length - 4), draw.below(length - 5))
        before = (position - 1).clamp(min=0)
        gap = torch.where(position == 0, 2, 3)
        other = torch.where(number < before, number, number + gap)
        noise = torch.full_like(other, task.noise_token)
        tokens.scatter_(1, other, draw.triggers).scatter_(1, other + 1, noise)
    return Sentences(tokens, draw.labels(), draw.outputs.squeeze(1))


def enumerated_sentences(
    task: ReasoningTask,
    *,
    unseen: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> WeightedSentences:
    """Return every sentence of a small task, so that ``model.loss(*enumerated_sentences(task))`` is the exact risk.

    Args:
        task: A task small enough for `plumbline.theory.reasoning.enumerate_population`.
        unseen: As in `sample_sentences`.
        dtype: float32 or float64, of the weights.
        device: Device of the result.

    Raises:
        ValueError: naming the parameter, its value and what is allowed; also if there are too many sentences.

    Example:
        >>> tokens, labels, weights = enumerated_sentences(ReasoningTask(5, 6, 1, 2, noise=0.25))
        >>> tokens.shape, weights.sum(0).tolist()
        (torch.Size([36, 6]), [0.75, 0.25])
    """
    dtype, device = placement(None, dtype, device, optional=True)
    population = enumerate_population(task, unseen=unseen)
    outputs = torch.as_tensor(population.outputs, device=device)
    labels, shares = [outputs], [1 - task.noise]
    if task.noise:
        labels.append(torch.full_like(outputs, task.noise_token))
        shares.append(task.noise)
    probabilities = torch.as_tensor(population.probabilities, dtype=dtype, device=device)
    weights = torch.stack([share * probabilities for share in shares], dim=1)
    return WeightedSentences(torch.as_tensor(population.sentences, device=device), torch.stack(labels, dim=1), weights)


def sample_token_counts(
    task: ReasoningTask,
    batch: int,
    *,
    unseen: bool = False,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> TokenCounts:
    """Draw the token counts of independent sentences, with the law they have in `sample_sentences`.

    .. math:: c = \\text{Multinomial}(H - 3; \\text{generic}) + 2 e_q + e_y, \\quad
              \\text{with noise} \\; \\text{Multinomial}(H - 5; \\text{generic}) + 3 e_q + e_y + e_τ

    Args, Raises:
        As `sample_sentences`.

    Source:
        Derived here.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_token_counts(ReasoningTask(), 3, generator=generator).counts.sum(1).tolist()
        [256, 256, 256]
    """
    draw = _Draw(task, batch, unseen, generator, device)
    fixed = [draw.triggers, draw.triggers, draw.outputs]
    if task.noise:
        fixed += [draw.triggers, torch.full_like(draw.triggers, task.noise_token)]
    tokens = torch.cat([*fixed, draw.generic(task.sentence_length - len(fixed))], dim=1)
    counts = tokens.new_zeros(batch, task.vocab_size).scatter_add_(1, tokens, torch.ones_like(tokens))
    return TokenCounts(counts, draw.triggers.squeeze(1), draw.outputs.squeeze(1), draw.labels())


def sample_label_counts(
    task: ReasoningTask,
    batch: int,
    *,
    size: tuple[int, ...] = (),
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Draw all that the loss of reparameterised linear and ReLU attention takes from a batch, for many batches.

    .. math:: n_q ∼ \text{Multinomial}(B; 1/Q, …, 1/Q), \quad n_τ ∼ \text{Binomial}(B, α)

    The cost does not depend on batch and sentence length.

    Args:
        task: The data distribution.
        batch: Number of sentences B in each batch, from 1 up.
        size: Shape of the array of batches, for instance ``(runs, steps)``; by default one batch.
        generator: Source of all randomness.
        dtype: float32 or float64.
        device: Device of the result; ``None`` is the generator's.

    Returns:
        Tensor (*size, Q) of the numbers of sentences that end with each trigger; with noise (*size, 2), the numbers of
        sentences labelled with the output and with the noise token: as `replay_normalized_gd` takes
        them.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Source:
        Derived here.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_label_counts(ReasoningTask(), 512, size=(2000,), generator=generator).sum(1).unique()
        tensor([512.], dtype=torch.float64)
    """
    check_task(task)
    batch = checks.integer("batch", batch, at_least=1)
    if not isinstance(size, tuple):
        raise ValueError(f"size must be a tuple of integers, got {size!r}")
    shape = tuple(checks.integer("size", number, at_least=1) for number in size)
    dtype, device = placement(generator, dtype, device)
    # In float64 whatever the result: float32 does not hold every count above 2²⁴.
    left = torch.full(shape, float(batch), dtype=torch.float64, device=device)
    if task.noise:
        noise = torch.binomial(left, torch.full_like(left, task.noise), generator=generator)
        return torch.stack([left - noise, noise], dim=-1).to(dtype)
    counts = []
    for others in range(task.triggers - 1, -1, -1):
        share = torch.full_like(left, 1 / (others + 1))
        counts.append(torch.binomial(left, share, generator=generator))
        left = left - counts[-1]
    return torch.stack(counts, dim=-1).to(dtype)


class _Draw:
    """The parts of a sentence that do not depend on positions; columns (batch, 1)."""

    def __init__(
        self,
        task: ReasoningTask,
        batch: int,
        unseen: bool,
        generator: torch.Generator,
        device: torch.device | str | None,
    ) -> None:
        self.task = check_task(task)
        self.batch = checks.integer("batch", batch, at_least=1)
        candidates = task.unseen_tokens if checks.one_of("unseen", unseen, (False, True)) else task.output_tokens
        if not candidates:
            raise ValueError(f"unseen must be False where every generic token is a trained output, got {task!r}")
        self.generator = generator
        _, self.device = placement(generator, torch.float64, device)
        self.triggers = self.below(len(task.sentence_triggers))
        self.outputs = self.below(len(candidates)) + candidates.start

    def below(self, end: int) -> Tensor:
        """Uniform on 0…end-1."""
        return torch.randint(end, (self.batch, 1), generator=self.generator, device=self.device)

    def generic(self, length: int) -> Tensor:
        """Uniform generic tokens, (batch, length)."""
        tokens = self.task.generic_tokens
        shape = (self.batch, length)
        return torch.randint(tokens.start, tokens.stop, shape, generator=self.generator, device=self.device)

    def labels(self) -> Tensor:
        outputs = self.outputs.squeeze(1)
        if not self.task.noise:
            return outputs.clone()
        coins = torch.rand(self.batch, generator=self.generator, dtype=torch.float64, device=self.device)
        return torch.where(coins < self.task.noise, self.task.noise_token, outputs)
