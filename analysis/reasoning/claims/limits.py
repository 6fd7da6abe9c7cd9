"""Where training ends: which models reach the Bayes risk, and how far above it the others stay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget, runs
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import BATCH, NOISY, PAPER, PUBLISHED, ModelCase
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, exact_lbfgs, normalized_descent
from plumbline.analysis.verdict import GlobalMinimum, Identity, Runs
from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    batch_loss_deviation,
    bayes_risk,
    feed_forward_floor,
    limit_loss,
    minimum_loss,
    normalized_gd_curve,
    population_loss,
    population_loss_derivative,
    softmax_loss,
)
from plumbline.theory.reasoning.layer import FeedForward

if TYPE_CHECKING:
    from plumbline.models.reasoning import OneLayerTransformer

# L-BFGS stops at a relative gradient of 1e-9; along the exponential tails of these losses normalised steps go further.
STATIONARY = 1e-6


@family.claim(
    statement="Linear and ReLU attention reach the Bayes risk (with noise: FA), and nothing goes below it.",
    source=f"{PAPER}, Lemma 3.1, Theorem 3.2 and section 5",
    rule=GlobalMinimum,
    status="as published",
    rivals={
        "minimum of F": "the minimum of the model whose feed-forward layer reads the last token alone, at α = 1/2",
        "limit of softmax": "the limit of the softmax model",
        "two percent lower": "a risk lower by 2 % of log N",
    },
    cases=by_budget(
        {
            "linear, no noise": ModelCase(PUBLISHED, "Reparam-Linear-FA", 0.5),
            "linear FA, α=0.2": ModelCase(NOISY, "Reparam-Linear-FA", 0.5),
            "ReLU FA, α=0.8": ModelCase(replace(PUBLISHED, noise=0.8), "Reparam-Relu-FA", 0.5),
        },
        {"ReLU, no noise": ModelCase(PUBLISHED, "Reparam-Relu-FA", 0.5)},
    ),
)
def reparameterised_reach_bayes(case: ModelCase, budget: Budget, seed: int) -> Any:
    trained = yield TrainReasoner(
        task=case.task,
        model=case.model,
        # Scales of 30: an excess of 1e-11.
        training=normalized_descent(
            case.learning_rate, round(30 * len(case.task.sentence_triggers) ** 0.5 / case.learning_rate)
        ),
        data="expected counts",
        # Every run starts at zero and sees the exact loss; several show that they agree.
        seeds=6,
        seed=seed,
    )
    best = bayes_risk(case.task)
    trivial = float(np.log(case.task.vocab_size))
    even = replace(case.task, noise=0.5)
    return Evidence(
        rule=GlobalMinimum(
            1e-6, trivial=trivial, numerical_error=1e-12, tolerance_stationary=STATIONARY, attained=0.9
        ),
        measured=Runs(trained["losses"], trained["residuals"]),
        predicted=best,
        rivals=[
            minimum_loss(even, Layer(feed_forward="F")),
            limit_loss(case.task, Layer("softmax")),
            best - 0.02 * trivial,
        ],
    )  # fmt: skip


@family.claim(
    statement="With noise a feed-forward layer that reads the last token alone (F) stays above the Bayes risk by "
    "exactly α log(1 + (1−α)(N−2)/α).",
    source=f"derived here; {PAPER} shows it in its figures only",
    rule=GlobalMinimum,
    status="derived here",
    rivals={
        "Bayes risk": "no gap",
        "half the gap": "half of it",
        "ten percent lower": "a minimum lower by a tenth of the gap",
    },
    cases=by_budget(
        {
            "linear, α=0.2": ModelCase(NOISY, "Reparam-Linear-F"),
            "linear, α=0.5": ModelCase(replace(PUBLISHED, noise=0.5), "Reparam-Linear-F"),
            "ReLU, α=0.8": ModelCase(replace(PUBLISHED, noise=0.8), "Reparam-Relu-F"),
        },
        {"N=7, H=6, Y=2, by enumeration": ModelCase(ReasoningTask(7, 6, 2, 2, 0.3), "Reparam-Linear-F")},
    ),
)
def lone_feed_forward_gap(case: ModelCase, budget: Budget, seed: int) -> Any:
    small = case.task.vocab_size < 10
    trained = yield TrainReasoner(
        task=case.task,
        model=case.model,
        training=exact_lbfgs(100),
        # Different starts: right of 0 where ReLU attention has a slope from the outset.
        start=0.0 if case.layer.attention == "relu" else 2.0,
        data="population" if small else "expected counts",
        seeds=runs(budget),
        seed=seed,
    )
    alone = Layer(feed_forward="F")
    best, floor = minimum_loss(case.task, alone), bayes_risk(case.task)
    return Evidence(
        rule=GlobalMinimum(
            1e-9,
            trivial=population_loss(case.task, 0.0, alone),
            numerical_error=1e-12,
            tolerance_stationary=STATIONARY,
            attained=0.7,
        ),
        measured=Runs(trained["losses"], trained["residuals"]),
        predicted=best,
        rivals=[floor, (best + floor) / 2, best - 0.1 * (best - floor)],
        note=f"gap {best - floor:.6f}",
    )


def on_sentences(model: OneLayerTransformer, seed: int, count: int = 256) -> float:
    """The loss on sampled sentences, the label's coin integrated out."""
    import torch

    from plumbline.models.reasoning import sample_sentences
    from plumbline.models.training.draws import generator

    task = model.task
    drawn = sample_sentences(task, count, generator=generator(seed, 0, 0))
    labels = torch.stack([drawn.outputs, torch.full_like(drawn.outputs, task.noise_token)], dim=1)
    weights = torch.tensor([1 - task.noise, task.noise], dtype=torch.float64).expand(count, 2) / count
    with torch.no_grad():
        return model.loss(drawn.tokens, labels, weights).item()


def softmax_at(
    task: ReasoningTask, scale: float, feed_forward: FeedForward, *, tied: bool = False
) -> OneLayerTransformer:
    """The published softmax model at a scale; tied: its value matrix is λ I, and F reads the attended trigger so."""
    import torch

    from plumbline.models.reasoning import OneLayerTransformer

    model = OneLayerTransformer(task, parameterization="reparam", attention="softmax", feed_forward=feed_forward)
    with torch.no_grad():
        assert model.scale is not None
        model.scale.fill_(scale)
        if not tied:
            return model
        wider = model.widened("origin")
        assert wider.value is not None
        assert wider.feed_forward_weight is not None
        wider.value.mul_(scale)
        if task.noise:
            wider.feed_forward_weight[task.noise_token, task.vocab_size] = scale
    return wider


SOFTMAX_CASES = by_budget(
    {
        "no noise": (PUBLISHED, "FA"),
        "F, α=0.2": (NOISY, "F"),
        "FA, α=0.5": (replace(PUBLISHED, noise=0.5), "FA"),
    },
    {"FA, α=0.2": (NOISY, "FA"), "F, α=0.8": (replace(PUBLISHED, noise=0.8), "F")},
)


@family.claim(
    statement="With the value matrix I softmax attention cannot reach the Bayes risk: trained, its loss comes down to "
    "log(1 + (N−1)/e), with noise to H2(α) + log(1 + (1−α)(N−2)/e) or its like for F, the linear loss at scale 1.",
    source=f"derived here; {PAPER}, Lemma 4.1 and Theorem 4.2, claim an optimal softmax model, which its code lacks",
    rule=Identity,
    status="corrected",
    published="Lemma 4.1 and Theorem 4.2 have a softmax model of loss 0, with a value matrix that the code does not"
    " train.",
    rivals={
        "Bayes risk": "as for linear attention",
        "logits up to 2": "the linear loss at scale 2, as if attention could weigh the output token twice",
        "untrained": "the loss at scale 0",
    },
    cases=SOFTMAX_CASES,
)
def softmax_limit(case: tuple[ReasoningTask, FeedForward], budget: Budget, seed: int) -> Any:
    task, kind = case
    trained = yield TrainReasoner(
        task=task,
        model=f"Reparam-Softmax-{kind}",
        training=normalized_descent(0.5, round(30 * len(task.sentence_triggers) ** 0.5 / 0.5), record_every=1000),
        data="token counts",
        batch=128,
        test=256,
        seed=seed,
    )
    further = on_sentences(softmax_at(task, 60.0, kind), seed)
    softmax, linear = Layer("softmax", kind), Layer("linear", kind)
    limit = limit_loss(task, softmax)
    return Evidence(
        # At a scale of 30 the other positions have weights of 1e-13; with other trigger counts scales of 25.
        rule=Identity(1e-7),
        measured=[trained["population"][-1, 0], trained["unseen"][-1, 0], further],
        predicted=np.full(3, limit),
        rivals=[
            np.full(3, bayes_risk(task)),
            np.full(3, population_loss(task, 2.0, linear)),
            np.full(3, population_loss(task, 0.0, softmax)),
        ],
        note=f"limit {limit:.6f}, Bayes risk {bayes_risk(task):.6f}",
    )


@family.claim(
    statement="With its value matrix tied to λ I softmax attention does reach the Bayes risk (with noise: FA).",
    source=f"derived here, in place of Lemma 4.1 of {PAPER}, whose parameterisation its code lacks",
    rule=Identity,
    status="derived here",
    rivals={
        "untied": "the loss with value matrix I",
        "linear attention": "the loss of linear attention at the same scale, as if no weight fell on other tokens",
    },
    cases=by_budget(
        {
            "N=7, H=6, Q=Y=2, no noise": ReasoningTask(7, 6, 2, 2),
            "N=7, H=7, Y=2, α=0.3": ReasoningTask(7, 7, 2, 2, 0.3),
        }
    ),
)
def tied_softmax_reaches_bayes(task: ReasoningTask, budget: Budget, seed: int) -> Evidence:
    from plumbline.models.reasoning import enumerated_sentences

    scales = (1.0, 4.0, 8.0, 16.0)
    sentences = enumerated_sentences(task)
    small = [softmax_at(task, scale, "FA", tied=True).loss(*sentences).item() for scale in scales]
    published = replace(PUBLISHED, noise=task.noise)
    large = on_sentences(softmax_at(published, 45.0, "FA", tied=True), seed)
    tied = [softmax_loss(task, scale, tied_value=True).value for scale in scales]
    untied = [softmax_loss(task, scale).value for scale in scales]
    return Evidence(
        # Sums over some thousand sentences, and at scale 45 an excess of e^{-40}.
        rule=Identity(1e-11),
        measured=[*small, large],
        predicted=[*tied, bayes_risk(published)],
        rivals=[
            [*untied, limit_loss(published, Layer("softmax"))],
            [*(population_loss(task, scale) for scale in scales), bayes_risk(published)],
        ],
    )


@family.claim(
    statement="Without noise softmax attention amplifies the batch noise while its slope steepens: the scales of the "
    "triggers come apart, and the loss is the mean of L(λ_k) over them.",
    source="derived here",
    rule=Identity,
    status="derived here",
    rivals={"one scale": "all scales at (η/√Q) (1 − (Q−1)/(2B)) t", "published scale": "all scales at η t/Q"},
    cases=by_budget({"η=0.1": 0.1}, {"η=0.5": 0.5}),
)
def softmax_scales_come_apart(rate: float, budget: Budget, seed: int) -> Any:
    from scipy.interpolate import CubicSpline

    task, softmax = PUBLISHED, Layer("softmax")
    trained = yield TrainReasoner(
        task=task,
        model="Reparam-Softmax-FA",
        training=normalized_descent(rate, 300),
        data="token counts",
        seed=seed,
    )
    # It ends where all slopes are 0 in float64, at scales of 42.
    steps = len(trained["curve_losses"]) - 1
    grid = np.linspace(0, 1.5 * rate * steps / task.triggers**0.5 + 1, 80)
    slope = CubicSpline(grid, [population_loss_derivative(task, x, softmax) for x in grid])
    loss = CubicSpline(grid, population_loss(task, grid, softmax, method="second-order"))
    shares = trained["counts"][: steps + 1, 0] / BATCH
    scales, losses = np.zeros(task.triggers), []
    for share in shares:
        losses.append(share @ loss(scales))
        gradient = share * slope(scales)
        scales = scales - rate * gradient / np.linalg.norm(gradient)
    predicted = np.array(losses)
    deviation = np.array([batch_loss_deviation(task, x, BATCH, softmax) for x in grid])
    curve = normalized_gd_curve(task, steps, rate, softmax, batch_size=BATCH)
    return Evidence(
        # The tokens of a batch move its loss by 1e-4, and, through the scales, by a few times that.
        rule=Identity(1.0, scale=np.full(steps + 1, 30 * deviation.max() + 1e-6)),
        measured=trained["curve_losses"][:, 0],
        predicted=predicted,
        rivals=[curve.losses, loss(rate / task.triggers * np.arange(steps + 1))],
        note=f"scales up to {np.ptp(trained['scales'][:, 0], axis=1).max():.2f} apart",
    )


@family.claim(
    statement="The unconstrained model with linear attention and F never moves W and V, and its loss comes down to "
    "H(label | last two tokens).",
    source="derived here",
    rule=GlobalMinimum,
    status="derived here",
    rivals={
        "prior of the outputs": "H2(α) + (1−α) log Y: the last token alone",
        "Bayes risk": "the whole sentence",
        "two percent lower": "a floor lower by 2 % of log N",
    },
    cases=by_budget(
        {
            "N=7, H=6, Q=Y=2, no noise": ReasoningTask(7, 6, 2, 2),
            "N=7, H=6, Y=2, α=0.3": ReasoningTask(7, 6, 2, 2, 0.3),
        },
        {"N=8, H=6, Q=1, Y=3, no noise": ReasoningTask(8, 6, 1, 3)},
    ),
)
def origin_linear_f_floor(task: ReasoningTask, budget: Budget, seed: int) -> Any:
    trained = yield TrainReasoner(
        task=task,
        model="Origin-Linear-F",
        training=exact_lbfgs(1500),
        data="population",
        seeds=8,
        seed=seed,
    )
    floor, trivial = feed_forward_floor(task), float(np.log(task.vocab_size))
    moved = max(trained["key_query_size"].max(), trained["value_size"].max())
    losses = np.where(moved == 0, trained["losses"], np.nan)
    return Evidence(
        # The floor is approached as the logits of impossible tokens go to −∞, so that it is not attained.
        rule=GlobalMinimum(1e-4, trivial=trivial, numerical_error=1e-12, tolerance_stationary=1e-4, attained=0.9),
        measured=Runs(losses, trained["residuals"]),
        predicted=floor,
        rivals=[
            bayes_risk(task) + (1 - task.noise) * float(np.log(task.outputs)),
            bayes_risk(task),
            floor - 0.02 * trivial,
        ],
        note=f"largest entry of W and V after training: {moved:g}",
    )
