"""In-context regression: experiments, claims and figures."""
