"""Your own trained model: its exact risk, the gap to the optimum, and the algorithm it implements."""

import torch

from models.regression import LinearTransformer, sample_prompts
from theory.regression import RegressionTask, linear_transformer_risk, multi_step_optimum

task = RegressionTask(5, 20)
generator = torch.Generator().manual_seed(0)
model = LinearTransformer(2, 1, 5, value_block="zero", generator=generator)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(600):
    prompts = sample_prompts(task, 500, generator=generator)
    loss = (model(prompts) - prompts.targets).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

risk = linear_transformer_risk(None, model.key_query.detach().numpy(), task)
optimum = multi_step_optimum(2, task.dim, task.context_length)
algorithm = model.as_algorithm(task)
print(f"risk {risk.value:.4f} ± {risk.error:.1g}, optimum {optimum.loss:.4f}, last training loss {loss.item():.4f}")
print(f"step sizes {algorithm.step_sizes.round(3)}, predicted {optimum.step_sizes.round(3)}")
print(f"distance from the nearest scalar algorithm: {algorithm.distance:.3f}")
