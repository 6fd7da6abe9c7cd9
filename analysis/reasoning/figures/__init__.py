"""The figures of in-context reasoning."""

from plumbline.analysis.reasoning.figures import courses, phases

__all__ = ["courses", "phases"]
