"""A wrong theorem: that one layer trained in context has the preconditioner Σ⁻¹. It comes out REFUTED, with numbers."""

import numpy as np

from plumbline import Evidence, Identity, claim
from plumbline.analysis.regression import RegressionTask, TrainLinearTransformer

COVARIANCE = [[2.0, 0.5], [0.5, 1.0]]


@claim(
    rule=Identity, status="derived here", source="a plausible guess",
    statement="A trained one-layer linear transformer has the preconditioner Σ⁻¹.",
    rivals={"identity": "no preconditioning at all"},
    cases=lambda budget: {"d=2, n=12": RegressionTask(2, 12, COVARIANCE)},
)  # fmt: skip
def preconditioner_is_the_inverse(task, budget, seed):
    trained = yield TrainLinearTransformer(task=task, seed=seed)
    return Evidence(
        rule=Identity(1e-3, scale=1.0),
        measured=-trained["key_query"][0, 0, 0],
        predicted=np.linalg.inv(COVARIANCE),
        rivals=[np.eye(2)],
    )
