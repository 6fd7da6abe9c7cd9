"""The jobs of in-context reasoning."""

from plumbline.analysis.reasoning.jobs.training import TrainReasoner

__all__ = ["TrainReasoner"]
