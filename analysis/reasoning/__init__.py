"""In-context reasoning against distributional association: experiments, claims and figures."""
