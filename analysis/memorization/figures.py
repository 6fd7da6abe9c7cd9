"""Figures of memorization."""
