"""Speed against a plain textbook implementation: same task, same run; prints ratios of medians.

    python benchmarks/memorization.py            # everything, some minutes
    python benchmarks/memorization.py --only step sampling

The textbook model is a module of the published kind: one ``torch.nn.MultiheadAttention`` for each head, on batches of
512 sampled contexts. Both sides use the same number of threads (``--threads``, 1 by default) and the same precision: a
training step float32, as the published experiments and ours do, and float64; everything else float64.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from torch import nn

from plumbline.models.ensemble import Ensemble
from plumbline.models.memorization import (
    CompressedAttentionTransformer,
    SequenceEncoder,
    joint_law,
    memorizing_transformer,
    sample_sequences,
)
from plumbline.models.training.draws import generator
from plumbline.theory.memorization import geometric_law, lookup_table, optimal_low_rank

VOCAB, DIM, HEADS, BATCH = 50, 10, 31, 512


class Textbook(nn.Module):
    """Embedding and positions, heads one after the other, the residual, and the unembedding of every position."""

    def __init__(self, vocab_size: int, context_length: int, dim: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.position = nn.Embedding(context_length, dim)
        self.heads = nn.ModuleList(nn.MultiheadAttention(dim, 1, bias=False, batch_first=True) for _ in range(heads))
        self.unembedding = nn.Linear(dim, vocab_size, bias=False)
        mask = torch.triu(torch.full((context_length, context_length), -torch.inf), 1)
        self.register_buffer("mask", mask)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        residual = self.embedding(tokens)
        x = residual + self.position.weight
        attended = [head(x, x, x, attn_mask=self.mask, need_weights=False)[0] for head in self.heads]
        return self.unembedding(residual + torch.stack(attended).sum(0))


def seconds(step: Callable[[int], None], repeats: int) -> float:
    """Median wall time of a step after one warm-up."""
    step(0)
    times = []
    for seed in range(1, repeats + 1):
        start = time.perf_counter()
        step(seed)
        times.append(time.perf_counter() - start)
    return median(times)


def step_times() -> None:
    """One step of Adam, per context: a batch of sampled contexts against the whole table."""
    law = lookup_table(VOCAB, 2, seed=0)
    contexts, labels = (torch.as_tensor(part.copy()) for part in (law.contexts, law.labels))
    for dtype in (torch.float32, torch.float64):
        plain = Textbook(VOCAB, 2, DIM, HEADS).to(dtype)
        optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)

        def textbook(seed: int, plain: nn.Module = plain, optimizer: torch.optim.Optimizer = optimizer) -> None:
            index = torch.randint(len(contexts), (BATCH,), generator=generator(seed, 0, 0))
            optimizer.zero_grad()
            logits = plain(contexts[index])[:, -1]
            nn.functional.cross_entropy(logits, labels[index]).backward()
            optimizer.step()

        old = seconds(textbook, 21) / BATCH
        print(f"textbook step, {dtype}, N=50, d=d_h=10, H=31, batch {BATCH}: {old * BATCH * 1e3:.1f} ms")
        joint = joint_law(law, dtype=dtype)
        for runs in (1, 5):
            modules = [
                CompressedAttentionTransformer(VOCAB, 2, HEADS, DIM, DIM, generator=generator(run, 0, 0))
                for run in range(runs)
            ]
            ensemble = Ensemble(modules, dtype=dtype)
            adam = torch.optim.Adam([ensemble.vector], lr=0.01)
            # One run is evaluated without vmap, as the trainer's L-BFGS does.
            members = ensemble.select(0) if runs == 1 else ensemble

            def ours(
                seed: int,
                ensemble: Ensemble = members,
                whole: Ensemble = ensemble,
                adam: torch.optim.Optimizer = adam,
                joint: torch.Tensor = joint,
            ) -> None:
                losses = ensemble.call("cross_entropy", joint)
                parts = torch.autograd.grad(losses.sum(), list(ensemble.parameters().values()))
                whole.vector.grad = torch.cat([part.reshape(len(whole), -1) for part in parts], dim=1)
                adam.step()

            with torch.enable_grad():
                new = seconds(ours, 21) / runs / len(contexts)
            print(
                f"  whole table, {runs} run(s): {new * len(contexts) * 1e3:.2f} ms a run and step, "
                f"{old / new:.0f}× per context"
            )


def sampling() -> None:
    """Sequences of three tokens, against a loop over samples and positions."""
    law, count = geometric_law(VOCAB, 2, ratio=0.9, seed=0), 2**14
    prior, table = (torch.as_tensor(part.copy()) for part in (law.prior, law.conditional))

    def loop(seed: int) -> None:
        source = generator(seed, 0, 0)
        rows = []
        for _ in range(count // 16):
            context = int(torch.multinomial(prior, 1, generator=source))
            following = int(torch.multinomial(table[context], 1, generator=source))
            rows.append((context // VOCAB, context % VOCAB, following))
        torch.tensor(rows)

    def ours(seed: int) -> None:
        sample_sequences(law, count, 3, generator=generator(seed, 0, 0))

    old, new = 16 * seconds(loop, 5), seconds(ours, 11)
    print(f"n-gram sampling, {count} sequences: {old * 1e3:.0f} (1/16 timed) / {new * 1e3:.2f} ms = {old / new:.0f}×")


def low_rank() -> None:
    """The optimum of rank 10 at N = 50, T = 2,500, against Adam on the same objective for five times as long."""
    for ratio in (0.9, 0.5):
        law = geometric_law(VOCAB, 2, ratio=ratio, seed=0)
        start = time.perf_counter()
        best = optimal_low_rank(law, DIM, starts=2, max_iterations=300)
        ours = time.perf_counter() - start
        joint, lowest = joint_law(law), {}
        for rate in (1e-3, 1e-2, 1e-1):
            model = SequenceEncoder(VOCAB, 2, DIM, generator=generator(0, 0, 0))
            adam = torch.optim.Adam(model.parameters(), lr=rate)
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < 5 * ours:
                adam.zero_grad()
                model.cross_entropy(joint).backward()
                adam.step()
                steps += 1
            lowest[rate] = (model.divergence(joint).item(), steps)
        adams = ", ".join(
            f"{value:.6f} at rate {rate:g} ({steps} steps, {value - best.divergence:+.1e})"
            for rate, (value, steps) in lowest.items()
        )
        print(f"optimal_low_rank, ratio {ratio}: {best.divergence:.6f} in {ours:.1f} s (≥ {best.lower_bound:.4f})")
        print(f"  Adam in {5 * ours:.1f} s (above it by): {adams}")


def witness() -> None:
    """The whole table of 2,500 contexts."""
    law = lookup_table(VOCAB, 2, seed=0)
    start = time.perf_counter()
    stored = memorizing_transformer(law.contexts, law.labels, heads=249, head_dim=10, embed_dim=10)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"witness, {stored.associations} contexts, H=249: accuracy {stored.accuracy}, "
        f"condition {stored.condition:.1e}, {took:.1f} s, peak of this process {peak:.2f} GiB"
    )


def experiments() -> None:
    """CPU time of experiments 1-6 at the published sizes, from one point in each corner."""
    from plumbline.analysis.budget import Budget
    from plumbline.analysis.memorization.figures import published as figures

    total = 0.0
    for name in ("experiment_1", "experiment_2", "experiment_3", "experiment_5", "experiment_6"):
        jobs, plan = [], getattr(figures, name).plan(Budget.PAPER, 0)
        asked = next(plan)
        while isinstance(asked, list) and len(jobs) < 200:
            jobs += asked
            # Results are only needed to go on to the next list of jobs.
            fake = [{"accuracies": np.full(job.runs, 0.1 + 0.001 * k)} for k, job in enumerate(asked)]
            try:
                asked = plan.send(fake)
            except StopIteration:
                break
        steps = 10
        sizes = {(job.architecture, job.embed_dim, job.heads): job for job in jobs}
        picked = list(sizes.values())[:: max(1, len(sizes) // 6)]
        ratios = []
        for job in picked:
            short = replace(job, training=replace(job.training, steps=steps, halve_every=None, record_every=steps))
            short.run()  # imports and buffers
            start = time.process_time()
            short.run()
            ratios.append((time.process_time() - start) / steps * job.training.steps)
        estimate = float(np.mean(ratios)) * len(jobs)
        total += estimate
        print(f"{name}: {len(jobs)} jobs, about {estimate:.0f} s of one core")
    print(f"  experiments 1-6 (4 shares its jobs with 1): about {total / 120:.1f} minutes on two cores")


PARTS = {
    "step": step_times,
    "sampling": sampling,
    "low_rank": low_rank,
    "witness": witness,
    "experiments": experiments,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.only:
        PARTS[part]()
