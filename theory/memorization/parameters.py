"""Numbers of parameters of the architectures whose capacities are compared."""

from __future__ import annotations

from plumbline.theory import checks
from plumbline.theory.memorization.capacity import MAX_CONTEXT_LENGTH, MAX_VOCAB_SIZE


def attention_only_parameters(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    *,
    rank_one: bool = False,
) -> int:
    r"""Return the number of parameters of the paper's one-layer attention-only transformer.

    .. math:: d (S + 2N + 4 d_h H), \qquad \text{with rank-one query-key products } d (S + 2N + 2 (d_h + 1) H)

    Embedding and unembedding d N each, positions d S, and per head W_Q, W_K, W_V (d_h, d) and W_O (d, d_h).

    Args:
        heads: H, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 1 up.
        vocab_size: N, from 1 up.
        context_length: S, from 1 up.
        rank_one: Whether W_Q and W_K have one row each.

    Returns:
        The number of parameters.

    Raises:
        ValueError: on sizes out of range.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), section 3 and Remark 2, as published.

    Example:
        >>> attention_only_parameters(249, 10, 10, vocab_size=50, context_length=2)
        100620
    """
    h, width, d, n, length = _sizes(heads, head_dim, embed_dim, vocab_size, context_length)
    per_head = 2 * (width + 1) if rank_one else 4 * width
    return d * (length + 2 * n + per_head * h)


def compressed_attention_parameters(
    heads: int,
    head_dim: int,
    embed_dim: int,
    vocab_size: int,
    context_length: int,
    *,
    layers: int = 1,
    mlp_width: int = 0,
    dead: bool = False,
) -> int:
    r"""Return the number of parameters of the published code's transformer, of any depth, with or without MLPs.

    .. math:: 2 N d + S d_h + 2 d d_h 1[d_h ≠ d] + (4 H d_h² + 2 d w + w 1[w > 0]) · layers

    Compress and decompress are shared by all heads and layers. The code allocates more than it reads: a position
    that is never attended to (d_h), and compress and decompress (2 d²) also where d_h = d, without a gradient.

    Args:
        heads: H, the number of attention modules of width d_h in each layer, from 0 up.
        head_dim: d_h, from 1 up.
        embed_dim: d, from 1 up.
        vocab_size: N, from 1 up.
        context_length: S, from 1 up.
        layers: Number of layers, from 1 up.
        mlp_width: w, the hidden width of the MLP in each layer (first bias only); 0 is none.
        dead: Whether to count the parameters that are allocated and never used.

    Returns:
        The number of parameters.

    Raises:
        ValueError: on sizes out of range.

    Source:
        Derived here, from the code of Dana, Pydi, Chevaleyre 2024 (2411.10115). Their figures count
        4 d² H + d (2N + 1), with S = 1 and without the bias of the MLP.

    Example:
        >>> sizes = dict(heads=31, head_dim=10, embed_dim=10, vocab_size=50, context_length=2)
        >>> compressed_attention_parameters(**sizes), compressed_attention_parameters(**sizes, dead=True)
        (13420, 13630)
    """
    h, width, d, n, length = _sizes(heads, head_dim, embed_dim, vocab_size, context_length)
    checks.integer("layers", layers, at_least=1)
    checks.integer("mlp_width", mlp_width, at_least=0)
    shared = 2 * n * d + (length + bool(dead)) * width
    if dead or width != d:
        shared += 2 * d * width
    return shared + layers * (4 * h * width**2 + (2 * d + 1) * mlp_width)


def sequence_encoder_parameters(embed_dim: int, vocab_size: int, context_length: int) -> int:
    r"""Return the number of parameters of a free d-dimensional vector for each context, and an unembedding.

    .. math:: d (N^S + N)

    Args:
        embed_dim: d, from 0 up.
        vocab_size: N, from 1 up.
        context_length: S, from 1 up.

    Returns:
        The number of parameters.

    Raises:
        ValueError: on sizes out of range.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), Definition 1, as published.

    Example:
        >>> sequence_encoder_parameters(10, vocab_size=50, context_length=2)
        25500
    """
    d = checks.integer("embed_dim", embed_dim, at_least=0)
    _, _, _, n, length = _sizes(0, 1, 1, vocab_size, context_length)
    return d * (n**length + n)


def _sizes(heads: int, head_dim: int, embed_dim: int, vocab_size: int, context_length: int) -> tuple[int, ...]:
    return (
        checks.integer("heads", heads, at_least=0),
        checks.integer("head_dim", head_dim, at_least=1),
        checks.integer("embed_dim", embed_dim, at_least=1),
        checks.integer("vocab_size", vocab_size, at_least=1, at_most=MAX_VOCAB_SIZE),
        checks.integer("context_length", context_length, at_least=1, at_most=MAX_CONTEXT_LENGTH),
    )
