"""Speed against a plain textbook implementation: same task, same batch, same run; prints ratios of medians.

    python benchmarks/regression.py            # everything, a few minutes
    python benchmarks/regression.py --only step variance

The textbook model writes the layer as the papers do, with one einsum over all token pairs and the mask as a matrix.
Both sides use one torch thread, float64, and draw their data inside the timed step.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from plumbline.analysis.regression.cases import rotated_task
from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import LinearTransformer, sample_prompts, sample_wisharts, wishart_design
from plumbline.models.training import Training
from plumbline.models.training.draws import generator
from plumbline.models.training.trainer import train
from plumbline.theory.regression import RegressionTask, linear_transformer_risk, multi_step_optimum


class Textbook(torch.nn.Module):
    """Z ← Z + (1/n) P Z M (Zᵀ Q Z), token by token."""

    def __init__(self, model: LinearTransformer) -> None:
        super().__init__()
        self.key_query = torch.nn.Parameter(model.key_query.detach().clone())
        self.value = None if model.value is None else torch.nn.Parameter(model.value.detach().clone())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, d = tokens.shape[1] - 1, tokens.shape[2] - 1
        mask = torch.eye(n + 1, dtype=tokens.dtype)
        mask[n, n] = 0
        z = tokens
        for layer in range(len(self.key_query)):
            q = torch.zeros(d + 1, d + 1, dtype=tokens.dtype)
            p = torch.zeros(d + 1, d + 1, dtype=tokens.dtype)
            q[:d, :d] = self.key_query[layer, 0]
            if self.value is not None:
                p[:d, :d] = self.value[layer, 0]
            p[d, d] = 1
            attention = torch.einsum("bni,ij,bmj->bnm", z, q.T, z)
            z = z + torch.einsum("bnm,ml,bli->bni", attention, mask, torch.einsum("bli,ji->blj", z, p)) / n
        return -z[:, n, d]


def network(task: RegressionTask, value_block: str = "free", init_scale: float = 0.05) -> LinearTransformer:
    return LinearTransformer(
        3, 1, task.dim, value_block=value_block, init_scale=init_scale, generator=generator(0, 0, 0)
    )  # type: ignore[arg-type]


def textbook_step(model: Textbook, task: RegressionTask, batch: int, parts: int = 1) -> Callable[[int], None]:
    """One gradient, in parts where the attention of the whole batch does not fit the memory."""

    def step(seed: int) -> None:
        model.zero_grad()
        for part in range(parts):
            prompts = sample_prompts(task, batch // parts, generator=generator(seed, part, 1))
            ((model(prompts.tokens) - prompts.targets).square().mean() / parts).backward()

    return step


def our_step(model: LinearTransformer, task: RegressionTask, batch: int) -> Callable[[int], None]:
    def step(seed: int) -> None:
        wisharts = sample_wisharts(task, batch, generator=generator(seed, 0, 1))
        model.zero_grad()
        model.mean_risk(wisharts, task).backward()

    return step


def seconds(step: Callable[[int], None], repeats: int, *, warm_up: bool = True) -> float:
    """Median wall time of a step after one warm-up."""
    if warm_up:
        step(0)
    times = []
    for seed in range(1, repeats + 1):
        start = time.perf_counter()
        step(seed)
        times.append(time.perf_counter() - start)
    return median(times)


def gradient(model: torch.nn.Module) -> np.ndarray:
    return np.concatenate([p.grad.reshape(-1).numpy().copy() for p in model.parameters() if p.grad is not None])


def spread(model: torch.nn.Module, step: Callable[[int], None], repeats: int) -> float:
    """Total variance of the gradient of one batch."""
    gradients = []
    for seed in range(repeats):
        step(seed)
        gradients.append(gradient(model))
    return float(np.var(gradients, axis=0, ddof=1).sum())


def step_times() -> None:
    task, batch = RegressionTask(5, 20), 2000
    plain, ours = Textbook(network(task)), network(task)
    old, new = seconds(textbook_step(plain, task, batch), 15), seconds(our_step(ours, task, batch), 15)
    print(f"training step, d=5, n=20, 3 layers, batch {batch}: {old * 1e3:.1f} / {new * 1e3:.2f} ms = {old / new:.1f}×")
    task, batch = RegressionTask(5, 1000), 200
    old = seconds(textbook_step(plain, task, batch, parts=8), 1, warm_up=False)
    new = seconds(our_step(ours, task, batch), 25)
    print(f"training step, n=1000, batch {batch}: {old:.1f} s / {new * 1e3:.2f} ms = {old / new:,.0f}×")


def flatness() -> None:
    times = {}
    for n in (20, 100, 1000, 10_000, 10**6):
        task = RegressionTask(5, n)
        times[n] = seconds(our_step(network(task), task, 2000), 25)
    low, high = min(times.values()), max(times.values())
    print("step time over n: " + ", ".join(f"n={n}: {t * 1e3:.2f} ms" for n, t in times.items()))
    print(f"  spread (max/min − 1): {high / low - 1:.0%}")


def variance() -> None:
    """Time to a gradient of the same variance: (time × variance) of the two."""
    task = RegressionTask(5, 20)
    for name, value_block, scale, batch in (("initialisation", "zero", 0.01, 1000), ("optimum", "zero", None, 1000)):
        ours = network(task, value_block, init_scale=scale or 0.0)
        if scale is None:
            with torch.no_grad():
                for layer, size in enumerate(multi_step_optimum(3, 5, 20).step_sizes):
                    ours.key_query[layer, 0] = -size * torch.eye(5)
        plain = Textbook(ours)
        steps = textbook_step(plain, task, batch), our_step(ours, task, batch)
        old, new = seconds(steps[0], 15), seconds(steps[1], 15)
        noise = spread(plain, steps[0], 150) / spread(ours, steps[1], 150)
        gain = old / new * noise
        print(f"equal gradient variance at {name}: {old / new:.1f}× time, {noise:.1f}× variance = {gain:.0f}×")


def to_optimum() -> None:
    """Time to come within 1 % of the predicted optimum: three layers, zero value block, rotated covariance."""
    task = rotated_task()
    target = 1.01 * multi_step_optimum(3, 5, 20).loss
    start = time.perf_counter()
    wisharts, weights = wishart_design(task, 25, degree=6, seed=0)
    ensemble = Ensemble([network(task, "zero", 0.002)])
    trained = train(
        ensemble,
        lambda members, _: members.call("mean_risk", wisharts, task, weights),
        Training(optimizer="lbfgs", steps=400, tolerance=1e-6),
    )
    ours = time.perf_counter() - start
    risk = linear_transformer_risk(None, trained.parameters["key_query"][0], task).value
    print(f"ours (L-BFGS on the design, to convergence): {ours:.2f} s, risk {risk:.6f} against {target / 1.01:.6f}")
    # The published run: Adam on 20,000 fresh prompts a step. Its number of steps is found on fresh Wisharts, whose
    # gradient has the same mean and less noise, so that the textbook model needs at least as many.
    model = network(task, "zero", 0.002)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.99, 0.9))
    steps, within = 0, 0
    while within < 5 and steps < 6000:
        optimizer.zero_grad()
        model.mean_risk(sample_wisharts(task, 4000, generator=generator(steps, 0, 2)), task).backward()
        for parameter in model.parameters():  # the notebook clips each matrix to norm 0.01
            norms = parameter.grad.flatten(2).norm(dim=2)[..., None, None]
            parameter.grad *= (0.01 / norms).clamp(max=1)
        optimizer.step()
        steps += 1
        if steps % 2000 == 0:
            optimizer.param_groups[0]["lr"] /= 2
        if steps % 25 == 0:
            risk = linear_transformer_risk(None, model.key_query.detach().numpy(), task, draws=2000).value
            within = within + 1 if risk < target else 0
    plain = Textbook(network(task, "zero", 0.002))
    old = seconds(textbook_step(plain, task, 20_000), 2)
    bound = "at least " if steps >= 6000 else ""
    print(f"textbook (Adam, batch 20,000): {old:.2f} s a step measured, {bound}{steps} steps, {old * steps:,.0f} s")
    print(f"  time to within 1 % of the optimum (extrapolated from measured steps): {bound}{old * steps / ours:,.0f}×")


def commands() -> None:
    """Wall time and peak memory of the commands, in new processes with an empty store."""
    for name, arguments in (
        ("plumbline check --family regression --budget quick", ["check", "--family", "regression"]),
        ("plumbline figure loss-against-context-length", ["figure", "loss-against-context-length"]),
        ("plumbline figure loss-against-depth", ["figure", "loss-against-depth"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            code = "import sys; from plumbline.analysis.commands.app import main; sys.argv[0] = 'plumbline'; main()"
            subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, check=True, capture_output=True)
            print(f"{name}: {time.perf_counter() - start:.0f} s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"largest process of these commands: {peak:.2f} GiB")
    times = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import plumbline.theory.regression"], check=True)
        times.append(time.perf_counter() - start)
    print(f"import plumbline.theory.regression, process start included: {median(times):.2f} s (median of 7)")


PARTS = {
    "step": step_times,
    "flatness": flatness,
    "variance": variance,
    "optimum": to_optimum,
    "commands": commands,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    torch.set_num_threads(1)
    for part in parser.parse_args().only:
        PARTS[part]()
