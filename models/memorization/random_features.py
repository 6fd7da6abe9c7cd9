"""What the heads of an attention-only transformer with random weights make of contexts."""

from __future__ import annotations

import numpy as np
import torch

from plumbline.models.memorization.transformers import AttentionOnlyTransformer
from plumbline.models.training.draws import generator

# Weights this large make attention neither uniform nor a hard choice, so that features are far from dependent.
SCALE = 3.0


def random_features(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    contexts: np.ndarray | None = None,
    *,
    seed: int,
) -> np.ndarray:
    """Return the attention features Z (d + H d_h, T) of contexts with random weights; columns of length one.

    Args:
        heads, head_dim, embed_dim, vocab_size, context_length: Sizes.
        contexts: (T, S); ``None``: all of them.
        seed: Of the weights.
    """
    if contexts is None:
        contexts = np.indices((vocab_size,) * context_length).reshape(context_length, -1).T
    model = AttentionOnlyTransformer(
        vocab_size, context_length, heads, head_dim, embed_dim, init_scale=SCALE, generator=generator(seed, 0, 0)
    )
    with torch.no_grad():
        features = model.attention_features(torch.as_tensor(contexts)).numpy().T
    lengths: np.ndarray = np.linalg.norm(features, axis=0)
    return features / lengths
