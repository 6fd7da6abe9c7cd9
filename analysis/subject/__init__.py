"""A model as given: what is said about it, and the claims that apply."""
