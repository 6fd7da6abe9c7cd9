"""Closed forms: what the theorems predict, computed without training anything.

Imports numpy, scipy and sympy only; each family is a subpackage (``plumbline.theory.regression``).
"""

if __name__ != "plumbline.theory":  # never a second copy of a class
    raise ImportError(
        "this folder is plumbline.theory: write `from plumbline.theory import …`; "
        "a folder of yours called theory is found before it if it has an __init__.py"
    )
