"""The figures of memorization."""

from plumbline.analysis.memorization.figures import phases, published, training

__all__ = ["phases", "published", "training"]
