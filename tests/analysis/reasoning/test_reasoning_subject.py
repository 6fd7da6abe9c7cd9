"""A one-layer transformer that is given: what attention and feed-forward say, and where on its course it stands."""

from __future__ import annotations

import math

import pytest
import torch

from plumbline.analysis import Outcome, check_model
from plumbline.models.reasoning import OneLayerTransformer, enumerated_sentences
from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    bayes_risk,
    limit_loss,
    optimal_scale,
    output_probabilities,
    population_loss,
)

CONSISTENT, REFUTED, IDLE = Outcome.CONSISTENT, Outcome.REFUTED, Outcome.NOT_APPLICABLE
NOISY, CLEAN, SMALL = ReasoningTask(noise=0.2), ReasoningTask(), ReasoningTask(7, 6, 2, 2, 0.3)
SAYS = "attention says the output token (share of sentences)"
TELLS = "feed-forward says the noise token (share of sentences)"


def at(task, name, scale, **options):
    """A reparameterised model at a scale."""
    model = OneLayerTransformer.from_name(name, task, **options)
    with torch.no_grad():
        model.scale.copy_(torch.as_tensor(scale).expand(model.scale.shape))
    return model


def trained(task, name, steps, rate=0.1):
    """An unconstrained model after normalised steps from zero on the exact loss."""
    model = OneLayerTransformer.from_name(name, task)
    sentences = enumerated_sentences(task)
    for _ in range(steps):
        loss = model.loss(*sentences)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= rate * gradient / (gradient.norm() + 1e-300)
    return model


@pytest.mark.parametrize("attention", ["Linear", "Relu"])
def test_both_layers_at_the_end_of_the_course_and_on_its_way(attention):
    """At a scale of 25 the Bayes predictor; at 3 its course, not its end. Both answer unseen outputs."""
    name = f"Reparam-{attention}-FA"
    report = check_model(at(NOISY, name, 25.0), NOISY)
    outcomes = report.outcomes()
    claims = ("reparameterised-reach-bayes", "layer-roles", "reparameterised-generalise", "enumerated-population-loss")
    assert [outcomes[claim] for claim in claims] == [CONSISTENT] * 4
    assert outcomes["reasoning-bayes-risk"] is CONSISTENT
    assert outcomes["lone-feed-forward-gap"] is outcomes["softmax-limit"] is IDLE
    assert report.gap("Bayes risk").value == pytest.approx(0, abs=1e-5)
    assert report.finding(SAYS) == report.finding(TELLS) == 1
    assert report.finding("P(output token)") == pytest.approx(0.8, abs=1e-5)
    assert report.finding("P(noise token)") == pytest.approx(0.2, abs=1e-5)
    assert report.finding("unseen outputs") == "answered like trained ones"
    assert report.finding("position on the course (steps × learning rate)") == 25

    early = check_model(at(NOISY, name, 3.0), NOISY)
    assert [early.outcomes()[claim] for claim in claims] == [REFUTED, CONSISTENT, CONSISTENT, CONSISTENT]
    assert early.loss.value == pytest.approx(population_loss(NOISY, 3.0), abs=1e-6)
    assert early.finding("P(output token)") == pytest.approx(output_probabilities(NOISY, 3.0).output, abs=1e-6)


def test_before_its_step_the_feed_forward_layer_says_another_token():
    """γ + λ < 0: attention is right, the feed-forward layer not yet."""
    report = check_model(at(NOISY, "Reparam-Linear-FA", 1.0), NOISY)
    assert (report.finding(SAYS), report.finding(TELLS)) == (1, 0)
    assert report.outcomes()["layer-roles"] is CONSISTENT
    assert check_model(at(NOISY, "Reparam-Linear-FA", 0.0), NOISY).finding(SAYS) == 0  # all equal: nothing is said


def test_roles_are_those_of_the_scale_that_is_measured(monkeypatch):
    """The claim can fail: logits of another scale are refuted."""
    from plumbline.analysis.reasoning import subject as model_check

    right = model_check.layer_logits
    monkeypatch.setattr(model_check, "layer_logits", lambda task, scale, **o: right(task, 1.001 * scale, **o))
    report = check_model(at(NOISY, "Reparam-Linear-FA", 9.0), NOISY)
    assert report.outcomes()["layer-roles"] is REFUTED


def test_a_wrong_share_of_noise_is_priced():
    """A feed-forward layer built for α̂ = 0.4 on α = 0.2: its own optimum is above the Bayes risk by the divergence."""
    model = at(NOISY, "Reparam-Linear-FA", 30.0, noise_estimate=0.4)
    report = check_model(model.state_dict(), NOISY, model={"name": "Reparam-Linear-FA"})
    divergence = 0.2 * math.log(0.2 / 0.4) + 0.8 * math.log(0.8 / 0.6)
    assert report.gap("optimum").value == pytest.approx(0, abs=1e-9)
    assert report.gap("Bayes risk").value == pytest.approx(divergence)
    assert report.outcomes()["reparameterised-reach-bayes"] is IDLE  # the claim is about α̂ = α


def test_lone_feed_forward_layer_stays_above_bayes_at_its_best_scale():
    """F at λ*: the gap of the theorem; at another scale it is not its minimum."""
    best = optimal_scale(SMALL, Layer(feed_forward="F"))
    report = check_model(at(SMALL, "Reparam-Linear-F", best), SMALL)
    assert report.outcomes()["lone-feed-forward-gap"] is CONSISTENT
    assert report.outcomes()["reparameterised-reach-bayes"] is IDLE
    assert report.finding("scale of the optimum") == best
    assert report.finding(TELLS) == 0
    rival = check_model(at(SMALL, "Reparam-Linear-F", 1.2 * best), SMALL)
    assert rival.outcomes()["lone-feed-forward-gap"] is REFUTED


def test_softmax_comes_down_to_its_limit_only():
    """At a scale of 30 the limit; at 4 not yet."""
    report = check_model(at(CLEAN, "Reparam-Softmax-FA", 30.0), CLEAN)
    assert report.outcomes()["softmax-limit"] is CONSISTENT
    assert report.loss.value == pytest.approx(limit_loss(CLEAN, Layer("softmax")), abs=1e-7)
    assert check_model(at(CLEAN, "Reparam-Softmax-FA", 4.0), CLEAN).outcomes()["softmax-limit"] is REFUTED


def test_scales_that_came_apart_are_off_the_course():
    """Without noise every trigger has a scale of its own: the loss is the mean over them."""
    scales = torch.tensor([6.0, 7.0, 8.0, 9.0, 5.0], dtype=torch.float64)
    report = check_model(at(CLEAN, "Reparam-Linear-FA", scales), CLEAN)
    assert report.loss.value == pytest.approx(sum(population_loss(CLEAN, float(s)) for s in scales) / 5)
    length = float(scales.norm())
    assert report.finding("position on the course (steps × learning rate)") == pytest.approx(length)
    assert report.finding("farthest scale from the course") == pytest.approx(length / 5**0.5 - 5)


def test_unconstrained_model_never_answers_unseen_outputs():
    """Trained from zero it stays below chance on them; with help from outside it is another model."""
    task = ReasoningTask(7, 6, 1, 2, 0.3)
    model = trained(task, "Origin-Relu-FA", 60)
    report = check_model(model, task)
    claims = ("unconstrained-do-not-generalise", "unconstrained-logits-sum-to-zero")
    assert report.loss.method == "exact, over all sentences"
    assert report.loss.value == pytest.approx(model.loss(*enumerated_sentences(task)).item())
    assert report.loss.value < 1.2
    assert [report.outcomes()[claim] for claim in claims] == [CONSISTENT, CONSISTENT]
    assert report.finding("unseen outputs") == "not answered: at chance or below"
    assert 0 < report.finding("W along the published direction") < 1
    assert any("Origin-Relu-FA" in sentence for sentence in report.missing)

    with torch.no_grad():
        model.value[list(task.unseen_tokens), list(task.unseen_tokens)] = 20.0
    rival = check_model(model, task)
    assert [rival.outcomes()[claim] for claim in claims] == [REFUTED, REFUTED]


def test_unconstrained_linear_model_with_f_has_its_floor():
    """W and V never move; L-BFGS on F alone comes to the floor, zero weights are above it."""
    task = ReasoningTask(7, 6, 2, 2)
    model = OneLayerTransformer.from_name("Origin-Linear-F", task)
    sentences = enumerated_sentences(task)
    optimizer = torch.optim.LBFGS([model.feed_forward_weight], lr=1, max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = model.loss(*sentences)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert check_model(model, task).outcomes()["origin-linear-f-floor"] is CONSISTENT
    zero = OneLayerTransformer.from_name("Origin-Linear-F", task)
    assert check_model(zero, task).outcomes()["origin-linear-f-floor"] is REFUTED


def test_trained_attention_stands_in_between():
    """W alone is trained, to half the way that reparameterised models have: unseen outputs are partly answered."""
    model = OneLayerTransformer.from_name("Reparam-Linear-W-FA", NOISY)
    with torch.no_grad():
        model.key_query.copy_(at(NOISY, "Reparam-Linear-FA", 8.0).matrices()[0])
    report = check_model(model, NOISY)
    assert report.outcomes()["trained-attention-in-between"] is CONSISTENT
    assert report.finding("W along the published direction") == pytest.approx(1)
    assert report.loss.method.startswith("mean over")
    assert report.loss.value == pytest.approx(population_loss(NOISY, 8.0))
    zero = OneLayerTransformer.from_name("Reparam-Linear-W-FA", NOISY)
    assert check_model(zero, NOISY).outcomes()["trained-attention-in-between"] is REFUTED


def test_what_is_sampled_has_its_error(monkeypatch):
    """A sample of sentences is within six of its errors of all of them: loss, gaps, findings, and claims."""
    from plumbline.analysis.reasoning import subject as model_check

    model = OneLayerTransformer.from_name("Origin-Linear-FA", SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    exact = check_model(model, SMALL)
    monkeypatch.setattr(model_check, "MAX_ENUMERATED", 0)
    sampled = check_model(model, SMALL)
    gap, true_gap = sampled.gap("Bayes risk"), exact.gap("Bayes risk")
    assert true_gap.error == 0 < gap.error == sampled.loss.error
    assert abs(gap.value - true_gap.value) <= 6 * gap.error
    assert {finding.error for finding in exact.findings} == {0.0}
    truth = {finding.name: finding.value for finding in exact.findings}
    drawn = [finding for finding in sampled.findings if finding.error]
    assert {"P(output token)", "P(noise token)", "loss on unseen outputs", SAYS, TELLS} <= {f.name for f in drawn}
    assert all(abs(finding.value - truth[finding.name]) <= 6 * finding.error for finding in drawn)
    claim = next(claim for claim in sampled.claims if claim.name == "reasoning-bayes-risk")
    reach = 6 * sampled.loss.error
    assert claim.verdict.interval == pytest.approx((sampled.loss.value - reach, sampled.loss.value + reach))


def test_a_loss_below_bayes_would_be_refuted(monkeypatch):
    """The bound can fail."""
    from plumbline.analysis.reasoning import subject as model_check

    monkeypatch.setattr(model_check, "bayes_risk", lambda task: 1.01 * bayes_risk(task))
    report = check_model(at(NOISY, "Reparam-Linear-FA", 30.0), NOISY)
    assert report.outcomes()["reasoning-bayes-risk"] is REFUTED


def test_weights_alone_need_the_name_of_their_model():
    """The same weights fit several models; a task of another vocabulary does not fit."""
    model = at(NOISY, "Reparam-Linear-FA", 5.0)
    with pytest.raises(ValueError, match="model must name a reasoning model"):
        check_model(model.state_dict(), NOISY)
    with pytest.raises(ValueError, match="got 'Reparam-Linear-AF'; did you mean"):
        check_model(model.state_dict(), NOISY, model={"name": "Reparam-Linear-AF"})
    with pytest.raises(ValueError, match="vocabulary, triggers and noise"):
        check_model(model, ReasoningTask(50, noise=0.2))
