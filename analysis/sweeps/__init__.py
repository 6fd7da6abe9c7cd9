"""Sweeps: experiments over a grid, as ensembles, read as a table of runs."""
