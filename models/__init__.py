"""PyTorch models of the three families, each beside the exact routes that integrate out what can be."""

if __name__ != "plumbline.models":  # never a second copy of a class
    raise ImportError(
        "this folder is plumbline.models: write `from plumbline.models import …`; "
        "a folder of yours called models is found before it if it has an __init__.py"
    )
