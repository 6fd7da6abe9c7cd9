"""One source of random numbers for each run and step."""

from __future__ import annotations

import numpy as np
import torch

from plumbline.theory import checks


def generator(seed: int, run: int, step: int) -> torch.Generator:
    """A torch generator for the draws of one run at one step, whatever was drawn before.

    The three numbers are mixed by `numpy.random.SeedSequence`, so that neighbouring seeds, runs and steps give
    unrelated streams, and a run draws the same in any ensemble. (The generator of torch on the CPU starts from
    32 bits: among a million streams some hundred pairs coincide.)

    Args:
        seed, run, step: From 0 up.

    Example:
        >>> round(torch.rand(1, generator=generator(0, 1, 2), dtype=torch.float64).item(), 3)
        0.398
    """
    numbers = (
        checks.integer("seed", seed, at_least=0),
        checks.integer("run", run, at_least=0),
        checks.integer("step", step, at_least=0),
    )
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))
