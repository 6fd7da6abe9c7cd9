"""Your own torch module: a linear layer trained with weight decay ends at the ridge regression of its data."""

from dataclasses import dataclass

import numpy as np
import torch

from plumbline import Evidence, Identity, claim


@dataclass(frozen=True)
class TrainLayer:
    decay: float
    seed: int

    def run(self):
        torch.manual_seed(self.seed)
        x, y, layer = torch.randn(30, 4), torch.randn(30), torch.nn.Linear(4, 1, bias=False)
        for _ in range(500):
            gradient = torch.autograd.grad((layer(x)[:, 0] - y).square().mean(), layer.weight)[0]
            layer.weight.data -= 0.2 * (gradient + self.decay * layer.weight.data)
        return {"x": x.numpy(), "y": y.numpy(), "weights": layer.weight.detach().numpy()[0]}


@claim(rule=Identity, status="derived here", source="any textbook", rivals={"λ": "without the ½"},
       statement="Weight decay λ ends at ridge with λ/2.", cases=lambda budget: {"λ=0.3": 0.3})  # fmt: skip
def weight_decay_is_ridge(decay, budget, seed):
    x, y, found = (yield TrainLayer(decay, seed)).values()
    half, whole = (np.linalg.solve(x.T @ x / 30 + p * np.eye(4), x.T @ y / 30) for p in (decay / 2, decay))
    return Evidence(Identity(1e-5), found, half, [whole])
