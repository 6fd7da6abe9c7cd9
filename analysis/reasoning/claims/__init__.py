"""The catalogue of the reasoning family; importing it registers every claim."""

from analysis.reasoning.claims import dynamics, identities, limits

__all__ = ["dynamics", "identities", "limits"]
