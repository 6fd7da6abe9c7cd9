"""The population divergence of a low-rank logit matrix with its gradient, and a descent that minimises it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MEMORY = 20
"""Pairs of steps and gradient changes that L-BFGS keeps."""
SUFFICIENT_DECREASE = 1e-4
"""A step is taken if it gains this fraction of what the slope promises (Armijo)."""
CURVATURE = 1e-12
"""A pair (s, y) is stored if s·y is above this multiple of y·y: otherwise it carries no curvature."""
NOISE = 100 * float(np.finfo(float).eps)
"""Rounding of a divergence of order one: a smaller decrease that is promised may not be seen."""
HALVINGS = 30
"""Attempts of one line search: below 2⁻³⁰ of a step the divergence no longer moves in float64."""
CHUNK_PRODUCTS = 2**18
"""Multiplications of one matrix product: as large as OpenBLAS leaves to one thread, and it stays in the cache."""

ValueAndGradient = Callable[[np.ndarray], tuple[float, np.ndarray]]


class DivergenceObjective:
    r"""Σ_t ρ_t KL(P_t ‖ softmax(Y x_t)) and its gradient, as a function of one flat vector.

    The vector holds Z (d, T), then Y (N, d), with x_t = z_t/√ρ_t: in these variables the curvature of every
    context has the same scale whatever its prior. All priors must be positive.

    Contexts run along the last axis and in chunks that fit the cache, so that every pass over a chunk is one
    vectorised operation and no product is large enough to be spread over threads: the result does not depend on
    the number of cores.
    """

    def __init__(self, table: np.ndarray, prior: np.ndarray, rank: int) -> None:
        self.contexts, self.tokens = table.shape
        self.rank = rank
        self.root = np.sqrt(prior)
        self.weighted = np.ascontiguousarray((self.root[:, None] * table).T)
        logs = np.log(table, out=np.zeros_like(table), where=table > 0)
        self.negative_entropy = float(prior @ np.einsum("tn,tn->t", table, logs))
        self.chunk = max(1, CHUNK_PRODUCTS // (self.tokens * max(rank, 1)))
        self._logits = np.empty((self.tokens, min(self.chunk, self.contexts)))

    def pack(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The vector of X (T, d) and Y (N, d)."""
        return np.concatenate([(left * self.root[:, None]).T.ravel(), right.ravel()])

    def unpack(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X (T, d) and Y (N, d) of a vector."""
        scaled, right = self._split(vector)
        return scaled.T / self.root[:, None], right.copy()

    def _split(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = self.rank * self.contexts
        return vector[:size].reshape(self.rank, self.contexts), vector[size:].reshape(self.tokens, self.rank)

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        scaled, right = self._split(vector)
        gradient = np.empty_like(vector)
        scaled_gradient, right_gradient = self._split(gradient)
        right_gradient[:] = 0.0
        value = self.negative_entropy
        for start in range(0, self.contexts, self.chunk):
            part = slice(start, min(start + self.chunk, self.contexts))
            z, root, weighted = scaled[:, part], self.root[part], self.weighted[:, part]
            logits = self._logits[:, : len(root)]
            np.matmul(right, z, out=logits)
            value -= float(np.einsum("nt,nt->", weighted, logits))
            logits /= root
            highest = logits.max(axis=0)
            logits -= highest
            np.exp(logits, out=logits)
            mass = logits.sum(axis=0)
            logits *= root / mass
            highest += np.log(mass)
            value += float(np.einsum("t,t,t->", root, root, highest))
            logits -= weighted  # now √ρ (q − P)
            np.matmul(right.T, logits, out=scaled_gradient[:, part])
            right_gradient += logits @ z.T
        # logits is √ρ_t (q_t − P_t): its product with z_t = √ρ_t x_t is ρ_t (q_t − P_t) x_t.
        return value, gradient


def lbfgs(
    objective: ValueAndGradient, start: np.ndarray, *, max_iterations: int, tolerance: float
) -> tuple[np.ndarray, float, np.ndarray]:
    """Descend by L-BFGS until the largest gradient entry is below ``tolerance``; return point, value, gradient.

    The two loops of L-BFGS run on the inner products of the stored pairs alone, so that one iteration reads the
    history four times. Sums are `einsum` without BLAS: the same on any number of cores.
    """
    point = start
    value, gradient = objective(point)
    steps = np.zeros((MEMORY, len(start)))
    changes = np.zeros((MEMORY, len(start)))
    products = np.zeros((MEMORY, MEMORY))  # s_i · y_j
    squares = np.zeros((MEMORY, MEMORY))  # y_i · y_j
    order: list[int] = []  # slots of the stored pairs, oldest first
    for _ in range(max_iterations):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = -gradient
        if order:
            newest = order[-1]
            scale = products[newest, newest] / squares[newest, newest]
            on_steps, on_changes = np.einsum("mn,n->m", steps, gradient), np.einsum("mn,n->m", changes, gradient)
            first, second = np.zeros(MEMORY), np.zeros(MEMORY)
            for i in reversed(order):
                first[i] = (on_steps[i] - products[i] @ first) / products[i, i]
            on_changes = scale * (on_changes - squares @ first)
            for i in order:
                second[i] = first[i] - (on_changes[i] + products[:, i] @ second) / products[i, i]
            direction *= scale
            direction += np.einsum("m,mn->n", scale * first, changes)
            direction -= np.einsum("m,mn->n", second, steps)
        slope = float(np.einsum("n,n->", gradient, direction))
        if order and 0 <= -slope <= NOISE / 100:
            break  # the divergence has no digits left for the decrease that is promised
        length = 1.0 if order else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        for _ in range(HALVINGS):
            new_point = point + length * direction
            new_value, new_gradient = objective(new_point)
            if new_value <= value + SUFFICIENT_DECREASE * length * slope:
                break
            length *= 0.5
        else:
            if not order or -slope <= NOISE:
                break
            order.clear()  # a direction without descent: rounding in the history; go on along the gradient
            continue
        step, change = new_point - point, new_gradient - gradient
        point, value, gradient = new_point, new_value, new_gradient
        curvature, square = (float(np.einsum("n,n->", change, other)) for other in (step, change))
        if curvature > CURVATURE * square:
            slot = len(order) if len(order) < MEMORY else order.pop(0)
            while slot in order:
                slot = (slot + 1) % MEMORY
            steps[slot], changes[slot] = step, change
            order.append(slot)
            products[slot], products[:, slot] = np.einsum("mn,n->m", changes, step), np.einsum("mn,n->m", steps, change)
            squares[slot] = squares[:, slot] = np.einsum("mn,n->m", changes, change)
    return point, value, gradient
