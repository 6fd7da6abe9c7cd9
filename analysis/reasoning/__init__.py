"""In-context recall against distributional association.

Its calculators and jobs are here together, for who writes claims.
"""

from plumbline.analysis.family import Family, register
from plumbline.analysis.reasoning.jobs import TrainReasoner
from plumbline.theory import reasoning as theory
from plumbline.theory.reasoning import *  # noqa: F403  (their list stands there)
from plumbline.theory.reasoning import ReasoningTask

family = register(
    Family(
        "reasoning",
        title="in-context recall against distributional association",
        theory="plumbline.theory.reasoning",
        folder="plumbline.analysis.reasoning",
        task=ReasoningTask,
        example=ReasoningTask(noise=0.2),
        example_model={"name": "Reparam-Linear-FA"},
    )
)

__all__ = [*theory.__all__, "family", "TrainReasoner"]
