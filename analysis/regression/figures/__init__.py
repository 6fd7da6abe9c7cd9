"""The figures of in-context regression."""

from plumbline.analysis.regression.figures import landscape, notebooks, notebooks_over_size, phases, risks

__all__ = ["landscape", "notebooks", "notebooks_over_size", "phases", "risks"]
