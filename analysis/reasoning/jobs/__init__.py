"""The jobs of in-context reasoning."""

from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner

__all__ = ["TrainReasoner"]
