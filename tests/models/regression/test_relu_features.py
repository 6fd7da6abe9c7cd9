"""The non-linear variant: features before full linear attention, and prompts linear in features."""

import math
import re

import pytest
import torch

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import FeatureTransformer, ReluFeatures, sample_feature_prompts

ROUNDING = 1e-12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_features_are_a_network_of_one_hidden_layer():
    """The same numbers as `torch.nn.Sequential`, and initial weights of the same law."""
    features = ReluFeatures(4, 6, generator=generator())
    plain = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4)).double()
    with torch.no_grad():
        for parameter, source in zip(
            plain.parameters(),
            (features.inner, features.inner_bias, features.outer, features.outer_bias),
            strict=True,
        ):
            parameter.copy_(source)
    x = torch.randn(7, 4, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(features(x), plain(x), rtol=ROUNDING, atol=ROUNDING)
    wide = ReluFeatures(50, 400, generator=generator(2))
    assert wide.inner.abs().max() <= 1 / math.sqrt(50)
    assert wide.outer.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)


def test_predictions_are_those_of_attention_on_features():
    """Token by token: features once, then the layers of full attention; the prompts stay as they were."""
    draws = generator(3)
    model = FeatureTransformer(3, 4, hidden=5, generator=draws)
    prompts = sample_feature_prompts(ReluFeatures(4, 5, generator=draws), 6, 9, generator=draws)
    before = prompts.tokens.clone()
    seen = torch.cat([model.features(prompts.tokens[..., :-1]), prompts.tokens[..., -1:]], -1)
    torch.testing.assert_close(model(prompts), model.attention(seen), rtol=ROUNDING, atol=ROUNDING)
    assert torch.equal(prompts.tokens, before)
    expected = (model(prompts) - prompts.targets).square().mean()
    torch.testing.assert_close(model.loss(prompts.tokens, prompts.targets), expected)


def test_labels_are_linear_in_the_features():
    """y_i = w·φ(x_i) with a weight vector for each prompt and one φ; the query's label is hidden."""
    features = ReluFeatures(3, 5, generator=generator(4))
    prompts = sample_feature_prompts(features, 4, 6, generator=generator(5))
    with torch.no_grad():
        labels = (features(prompts.tokens[..., :-1]) * prompts.weights[:, None]).sum(-1)
    torch.testing.assert_close(prompts.tokens[:, :-1, -1], labels[:, :-1])
    torch.testing.assert_close(prompts.targets, labels[:, -1])
    assert (prompts.tokens[:, -1, -1] == 0).all()
    assert not prompts.tokens.requires_grad
    assert len(torch.unique(prompts.weights, dim=0)) == 4


def test_an_ensemble_is_its_models():
    """Stacked runs compute what each computes alone."""
    models = [FeatureTransformer(2, 3, hidden=4, generator=generator(i)) for i in range(3)]
    prompts = sample_feature_prompts(models[0].features, 5, 6, generator=generator(6))
    together = Ensemble(models).call("loss", prompts.tokens, prompts.targets)
    alone = torch.stack([model.loss(prompts.tokens, prompts.targets) for model in models])
    torch.testing.assert_close(together, alone, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ReluFeatures(0), "dim must be"),
        (lambda: ReluFeatures(3, 0), "hidden must be"),
        (lambda: FeatureTransformer(0, 3), "layers must be"),
        (lambda: sample_feature_prompts(torch.nn.ReLU(), 2, 3, generator=generator()), "features must be ReluFeatures"),
        (lambda: sample_feature_prompts(ReluFeatures(2), 0, 3, generator=generator()), "batch must be"),
        (lambda: sample_feature_prompts(ReluFeatures(2), 2, 0, generator=generator()), "context_length must be"),
        (lambda: FeatureTransformer(1, 3)(torch.ones(2, 3, 5)), "prompts must have shape (any, any, 4)"),
    ],
)
def test_bad_input_is_named(call, message):
    """The error says which argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
