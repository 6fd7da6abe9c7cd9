"""Memorisation of next-token laws: experiments, claims and figures."""
