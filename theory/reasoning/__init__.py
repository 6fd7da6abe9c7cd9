"""Closed forms for in-context reasoning against distributional association by one-layer transformers."""

from theory.reasoning.task import ReasoningTask

__all__ = ["ReasoningTask"]
