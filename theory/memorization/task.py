"""The next-token laws that a model is to memorise: conditional tables and the prior over contexts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from plumbline.theory import checks

NgramLaw = Literal["geometric", "zipf", "uniform", "lookup", "table"]
LAWS = ("geometric", "zipf", "uniform", "lookup", "table")
MAX_ENTRIES = 10**8
"""Largest number N^(S+1) of conditional probabilities: 800 MB as float64."""
MAX_CONTEXT_LENGTH = 25
"""No longer context fits `MAX_ENTRIES`, even with two tokens."""
MAX_WINDOW = 10**4


@dataclass(frozen=True)
class NgramTask:
    r"""The next token given the S tokens before it: a table of conditional laws and the prior it induces.

    .. math:: t_{S+1} ∼ P(· | t_1, …, t_S), \qquad ρ(t_1, …, t_S) = \text{the law of the window before it}

    The task is a specification: random tables are drawn from the seed (PCG64) when they are first read, and are
    not part of its fields, so that a task with millions of probabilities is a few numbers.

    Each context of a ``"geometric"``, ``"zipf"`` or ``"uniform"`` law has the same weights, in an order of its
    own (an independent uniform permutation of the tokens): rᶦ, (i+1)^{-a} or 1 for i = 0, …, support − 1,
    normalised, and 0 for the other tokens. A ``"lookup"`` law is deterministic; a ``"table"`` is any law.

    Args:
        vocab_size: Number N of tokens, from 2 up; tokens are 0, …, N − 1.
        context_length: Number S of tokens that the next one depends on, from 1 up; N^(S+1) ≤ 1e8.
        law: ``"geometric"``, ``"zipf"``, ``"uniform"``, ``"lookup"`` or ``"table"``.
        ratio: r in (0, 1], for the geometric law only.
        exponent: a ≥ 0, for the zipf law only.
        support: Number of tokens with positive probability in each context, 1, …, N; ``None`` is N.
        seed: Seed of the random permutations, or of a random look-up table.
        next_tokens: The next token of each context, in the order of `contexts`, for the lookup law only; ``None``
            draws them uniformly from the seed.
        table: The conditional law (N^S, N) of each context, for the table law only.
        initial: The law (N^S,) of the first S tokens, in the order of `contexts`; ``None`` is uniform.
        window: Position of the window in the sequence: 0 is the first, whose law is ``initial``; at k > 0 the
            law is propagated k tokens further.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Example:
        >>> task = NgramTask(2, 1, "table", table=[[0.9, 0.1], [0.3, 0.7]], window=1)
        >>> task.prior.round(12).tolist()
        [0.6, 0.4]
    """

    vocab_size: int
    context_length: int = 2
    law: NgramLaw = "uniform"
    ratio: float | None = None
    exponent: float | None = None
    support: int | None = None
    seed: int = 0
    next_tokens: Any = None  # given as any array, kept as a tuple so that the task is hashable
    table: Any = None
    initial: Any = None
    window: int = 0

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        n = checks.integer("vocab_size", self.vocab_size, at_least=2, at_most=MAX_ENTRIES)
        length = checks.integer("context_length", self.context_length, at_least=1, at_most=MAX_CONTEXT_LENGTH)
        if n ** (length + 1) > MAX_ENTRIES:
            raise ValueError(
                f"context_length must keep vocab_size^(context_length + 1) at most {MAX_ENTRIES}, "
                f"got {length} with vocab_size {n}"
            )
        put("vocab_size", n)
        put("context_length", length)
        checks.one_of("law", self.law, LAWS)
        self._refuse_what_is_of_another_law()
        if self.law == "geometric":
            put("ratio", checks.real("ratio", self.ratio, above=0.0, at_most=1.0))
        elif self.law == "zipf":
            put("exponent", checks.real("exponent", self.exponent, at_least=0.0))
        elif self.law == "table":
            rows = checks.probabilities("table", self.table, (n**length, n))
            put("table", tuple(map(tuple, rows.tolist())))
        elif self.next_tokens is not None:
            put("next_tokens", tuple(checks.tokens("next_tokens", self.next_tokens, (n**length,), n).tolist()))
        if self.law in ("geometric", "zipf", "uniform"):
            support = n if self.support is None else self.support
            put("support", checks.integer("support", support, at_least=1, at_most=n))
        put("seed", checks.integer("seed", self.seed, at_least=0))
        if self.initial is not None:
            put("initial", tuple(checks.probabilities("initial", self.initial, (n**length,)).tolist()))
        put("window", checks.integer("window", self.window, at_least=0, at_most=MAX_WINDOW))

    def _refuse_what_is_of_another_law(self) -> None:
        owners = {
            "ratio": ("geometric",),
            "exponent": ("zipf",),
            "support": ("geometric", "zipf", "uniform"),
            "next_tokens": ("lookup",),
            "table": ("table",),
        }
        for name, laws in owners.items():
            value = getattr(self, name)
            if value is not None and self.law not in laws:
                raise ValueError(f"{name} is for the law {' or '.join(map(repr, laws))} only, got it with {self.law!r}")
            if value is None and name in ("ratio", "exponent", "table") and self.law in laws:
                raise ValueError(f"{name} must be given for the law {self.law!r}, got None")

    def __getstate__(self) -> dict[str, Any]:
        # The tables follow from the fields: they are not sent to other processes.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def context_count(self) -> int:
        """T = N^S."""
        return self.vocab_size**self.context_length

    @cached_property
    def contexts(self) -> np.ndarray:
        """All contexts (T, S) in lexicographic order, t_1 most significant; read-only."""
        n, length = self.vocab_size, self.context_length
        return _read_only(np.indices((n,) * length).reshape(length, -1).T.copy())

    @cached_property
    def conditional(self) -> np.ndarray:
        """P (T, N), the law of the next token in each context; read-only."""
        n = self.vocab_size
        if self.law == "table":
            return _read_only(np.array(self.table))
        if self.law == "lookup":
            rows = np.zeros((self.context_count, n))
            rows[np.arange(self.context_count), self.labels] = 1.0
            return _read_only(rows)
        weights = np.zeros(n)
        weights[: self.support] = self._weights()
        rows = np.tile(weights / weights.sum(), (self.context_count, 1))
        return _read_only(self._generator().permuted(rows, axis=1))

    @cached_property
    def labels(self) -> np.ndarray:
        """The one possible next token (T,) of each context of a deterministic law; read-only.

        Raises:
            ValueError: if a context has several possible next tokens.
        """
        if self.law == "lookup":
            if self.next_tokens is not None:
                return _read_only(np.array(self.next_tokens))
            return _read_only(self._generator().integers(self.vocab_size, size=self.context_count))
        possible = np.count_nonzero(self.conditional, axis=1)
        if possible.max() > 1:
            where = int(possible.argmax())
            raise ValueError(
                "task must have one possible next token per context for labels, "
                f"got {possible[where]} in context {self.contexts[where].tolist()}"
            )
        return _read_only(self.conditional.argmax(axis=1))

    @cached_property
    def prior(self) -> np.ndarray:
        """ρ (T,), the law of the contexts at the window; read-only."""
        n, count = self.vocab_size, self.context_count
        prior = np.full(count, 1 / count) if self.initial is None else np.array(self.initial)
        if self.window:
            steps = self.conditional.reshape(n, count // n, n)
            for _ in range(self.window):
                prior = np.einsum("ab,abc->bc", prior.reshape(n, -1), steps).ravel()
        return _read_only(prior)

    def _weights(self) -> np.ndarray:
        assert self.support is not None
        rank = np.arange(self.support, dtype=float)
        if self.law == "geometric":
            assert self.ratio is not None
            return self.ratio**rank
        if self.law == "zipf":
            assert self.exponent is not None
            return (rank + 1) ** -self.exponent
        return np.ones(self.support)

    def _generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self.seed))


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def geometric_law(
    vocab_size: int,
    context_length: int = 2,
    *,
    ratio: float,
    support: int | None = None,
    seed: int = 0,
    window: int = 0,
) -> NgramTask:
    r"""Return the task whose i-th most likely token has weight rᶦ in every context, in random order.

    .. math:: P(σ_c(i) | c) = r^i / \sum_{j < k} r^j, \qquad i = 0, …, k - 1,\quad σ_c \text{ uniform permutations}

    Conditions: none beyond the ranges below. r = 1 is uniform on k tokens, k = 1 a random look-up table.

    Args:
        vocab_size: Number N of tokens.
        context_length: Number S of tokens that the next one depends on.
        ratio: r in (0, 1].
        support: k, the number of tokens with positive probability; ``None`` is N.
        seed: Seed of the permutations.
        window: Position of the window in the sequence, see `NgramTask`.

    Returns:
        An `NgramTask`.

    Raises:
        ValueError: on sizes or a ratio out of range.

    Source:
        The law of the experiments of Dana, Pydi, Chevaleyre 2024 (2411.10115); their code calls it a power law.

    Example:
        >>> geometric_law(3, 1, ratio=0.5).conditional.max(axis=1).round(6).tolist()
        [0.571429, 0.571429, 0.571429]
    """
    return NgramTask(vocab_size, context_length, "geometric", ratio=ratio, support=support, seed=seed, window=window)


def zipf_law(
    vocab_size: int,
    context_length: int = 2,
    *,
    exponent: float,
    support: int | None = None,
    seed: int = 0,
    window: int = 0,
) -> NgramTask:
    r"""Return the task whose i-th most likely token has weight (i+1)^{-a} in every context, in random order.

    .. math:: P(σ_c(i) | c) = (i+1)^{-a} / \sum_{j < k} (j+1)^{-a}, \qquad i = 0, …, k - 1

    Conditions: none beyond the ranges below.

    Args:
        vocab_size: Number N of tokens.
        context_length: Number S of tokens that the next one depends on.
        exponent: a ≥ 0; 0 is uniform on k tokens.
        support: k, the number of tokens with positive probability; ``None`` is N.
        seed: Seed of the permutations.
        window: Position of the window in the sequence, see `NgramTask`.

    Returns:
        An `NgramTask`.

    Raises:
        ValueError: on sizes or an exponent out of range.

    Source:
        Zipf's law; derived here as the power law that the published experiments name but do not use.

    Example:
        >>> zipf_law(3, 1, exponent=1).conditional.max(axis=1).round(6).tolist()
        [0.545455, 0.545455, 0.545455]
    """
    return NgramTask(vocab_size, context_length, "zipf", exponent=exponent, support=support, seed=seed, window=window)


def uniform_law(
    vocab_size: int, context_length: int = 2, *, support: int | None = None, seed: int = 0, window: int = 0
) -> NgramTask:
    r"""Return the task whose next token is uniform on k tokens that each context chooses at random.

    .. math:: P(x | c) = 1/k \text{ for } x ∈ A_c,\quad |A_c| = k,\quad A_c \text{ uniform and independent}

    Conditions: none beyond the ranges below. k = N is the uniform law.

    Args:
        vocab_size: Number N of tokens.
        context_length: Number S of tokens that the next one depends on.
        support: k, the number of tokens with positive probability; ``None`` is N.
        seed: Seed of the choices.
        window: Position of the window in the sequence, see `NgramTask`.

    Returns:
        An `NgramTask`.

    Raises:
        ValueError: on sizes out of range.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), experiments (weights all 1).

    Example:
        >>> uniform_law(4, 1, support=2).conditional.sum(axis=1).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    return NgramTask(vocab_size, context_length, "uniform", support=support, seed=seed, window=window)


def lookup_table(vocab_size: int, context_length: int = 2, *, labels: Any = None, seed: int = 0) -> NgramTask:
    r"""Return the deterministic task whose next token is a function of the context.

    .. math:: P(x | c) = 1[x = g(c)]

    Conditions: none beyond the ranges below. Contexts have the uniform prior (window 0).

    Args:
        vocab_size: Number N of tokens.
        context_length: Number S of tokens that the next one depends on.
        labels: g (N^S,), in lexicographic order of the contexts; ``None`` draws it uniformly at random.
        seed: Seed of the random table.

    Returns:
        An `NgramTask`.

    Raises:
        ValueError: on sizes out of range, or labels that are no tokens.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), Assumption 1.

    Example:
        >>> lookup_table(3, 1, labels=[2, 0, 1]).labels.tolist()
        [2, 0, 1]
    """
    task = NgramTask(vocab_size, context_length, "lookup", seed=seed)
    if labels is None:
        return task
    tokens = checks.tokens("labels", labels, (task.context_count,), task.vocab_size)
    return NgramTask(vocab_size, context_length, "lookup", next_tokens=tokens, seed=seed)


def check_task(task: Any) -> NgramTask:
    """Return ``task`` if it is an `NgramTask`; otherwise raise ValueError."""
    if not isinstance(task, NgramTask):
        raise ValueError(f"task must be an NgramTask, got {task!r}")
    return task


def table_and_prior(task_or_table: Any, prior: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return P (T, N) and ρ (T,) of a task, or of an explicit table with its prior (``None``: uniform).

    Raises:
        ValueError: if rows or prior are no distributions, or a prior is given beside a task.
    """
    if isinstance(task_or_table, NgramTask):
        if prior is not None:
            raise ValueError("prior must be None where task_or_table is an NgramTask, which has its own")
        return task_or_table.conditional, task_or_table.prior
    table = checks.probabilities("task_or_table", task_or_table, (None, None))
    if prior is None:
        return table, np.full(len(table), 1 / len(table))
    return table, checks.probabilities("prior", prior, (len(table),))
