"""Your own trained model: its exact risk, the gap to the optimum, and the algorithm it implements."""

from pathlib import Path

import torch

from plumbline import check_model, task_file
from plumbline.models.regression import LinearTransformer, sample_prompts
from plumbline.theory.regression import RegressionTask

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

report = check_model(model, task, margin=0.1)
print(f"risk {report.loss.value:.4f} ± {report.loss.error:.1g}, last training loss {loss.item():.4f}")
print(f"gap to the optimum {report.gap('optimum').value:.4f}, to the Bayes risk {report.gap('Bayes risk').value:.4f}")
print(f"{report.finding('algorithm')}, step sizes {report.finding('step sizes').round(3)}")
print(f"relative distance from the optimum: {report.finding('distance from the optimum'):.3f}")

torch.save(model.state_dict(), "own_model.pt")
Path("own_task.json").write_text(task_file(task))
