"""PyTorch models of the three families, each beside the exact routes that integrate out what can be."""
