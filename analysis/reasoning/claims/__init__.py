"""The catalogue of the reasoning family; importing it registers every claim."""

from plumbline.analysis.reasoning.claims import dynamics, finite_sample, identities, limits, rates, unseen

__all__ = ["dynamics", "finite_sample", "identities", "limits", "rates", "unseen"]
