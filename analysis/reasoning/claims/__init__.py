"""The catalogue of the reasoning family; importing it registers every claim."""

from analysis.reasoning.claims import identities

__all__ = ["identities"]
