"""The catalogue of the memorization family; importing it registers every claim."""

from plumbline.analysis.memorization.claims import accuracy, capacity, distribution, lookup, low_rank, scaling

__all__ = ["accuracy", "capacity", "distribution", "lookup", "low_rank", "scaling"]
