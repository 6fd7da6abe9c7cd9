"""Closed forms: what the theorems predict, computed without training anything.

Imports numpy, scipy and sympy only; each family is a subpackage (``theory.regression``).
"""
