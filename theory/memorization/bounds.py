"""What no model exceeds, and what networks without attention reach: bounds with concrete constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

from plumbline.theory import checks

MAX_NUMBER = 10**15
"""Largest numbers of parameters and points: quotients are exact in float64."""


def dimension_upper_bound(parameters: int, outputs: int) -> int:
    r"""Return the largest number of contexts whose targets a smooth model can match, whatever they are.

    .. math:: T ≤ P / k

    The image of P parameters under a smooth map has measure zero in T k > P dimensions (Sard).

    Conditions: targets in an open set of dimension k per context: k = N − 1 for full next-token distributions, k = d
    for vectors in R^d before a fixed unembedding. Weights can be real numbers of any precision. It does not limit
    labels: see `bit_upper_bound`.

    Status: **derived** here (standard); the part k/(N − 1) of Madden, Fox, Thrampoulidis 2024 (2405.13718).

    Args:
        parameters: P, from 0 up; parameters without effect can be left out.
        outputs: k, from 1 up.

    Returns:
        ⌊P / k⌋.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Derived here.

    Example:
        >>> dimension_upper_bound(100620, outputs=49)
        2053
    """
    checks.integer("parameters", parameters, at_least=0)
    return parameters // checks.integer("outputs", outputs, at_least=1)


def bit_upper_bound(parameters: int, bits: int, vocab_size: int) -> int:
    r"""Return the largest number of contexts whose labels a model with P parameters of b bits can match.

    .. math:: T ≤ b P / \log_2 N

    The 2^{bP} settings have at most that many tables, and there are N^T.

    Conditions: none; every label of every table by argmax, with any architecture.

    Status: **derived** here (counting).

    Args:
        parameters: P, from 0 to 1e15.
        bits: b, bits per parameter, from 1 to 128.
        vocab_size: N, from 2 up.

    Returns:
        ⌊b P / log2 N⌋.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Derived here.

    Example:
        >>> bit_upper_bound(1000, bits=8, vocab_size=16)
        2000
    """
    checks.integer("parameters", parameters, at_least=0, at_most=MAX_NUMBER)
    checks.integer("bits", bits, at_least=1, at_most=128)
    checks.integer("vocab_size", vocab_size, at_least=2, at_most=MAX_NUMBER)
    power = vocab_size.bit_length() - 1
    if vocab_size == 1 << power:
        return bits * parameters // power
    return math.floor(bits * parameters / math.log2(vocab_size))


def threshold_network_width(points: int, dim: int) -> int:
    r"""Return a number of hidden threshold units that fits any binary labels of n points.

    .. math:: \lceil n / d \rceil

    Conditions: one hidden layer; points in general position in R^d (no d + 1 on a hyperplane).

    Status: **published**, taken as it stands.

    Args:
        points: n, from 1 up.
        dim: d, from 1 up.

    Returns:
        The number of units.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Baum 1988, *On the capabilities of multilayer perceptrons*, as quoted by Bubeck et al. 2020 (2006.02855).

    Example:
        >>> threshold_network_width(2500, 20)
        125
    """
    return -(-checks.integer("points", points, at_least=1) // checks.integer("dim", dim, at_least=1))


def two_layer_relu_width(points: int, dim: int) -> int:
    r"""Return a number of hidden ReLU units that fits any real labels of n points.

    .. math:: 4 \lceil n / d \rceil

    Four units for each d points: the difference quotient of ReLU across the hyperplane through them, restricted to a
    thin slab around it.

    Conditions: one hidden layer; points in general position in R^d (no d + 1 on a hyperplane).

    Status: **published**; the construction is repeated in the tests.

    Args:
        points: n, from 1 up.
        dim: d, from 1 up.

    Returns:
        The number of units.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Bubeck, Eldan, Lee, Mikulincer 2020 (2006.02855).

    Example:
        >>> two_layer_relu_width(2500, 20)
        500
    """
    return 4 * threshold_network_width(points, dim)


def two_layer_relu_weights(points: int, dim: int) -> int:
    r"""Return a number of weights of a two-layer ReLU network that fits any real labels of n distinct points.

    .. math:: 2 n + d

    One shared direction (d), and a bias and an output weight for each of n hidden units.

    Conditions: one hidden layer; distinct points in R^d.

    Status: **published**; the construction is repeated in the tests.

    Args:
        points: n, from 1 up.
        dim: d, from 1 up.

    Returns:
        The number of weights.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Zhang, Bengio, Hardt, Recht, Vinyals 2017 (1611.03530), Theorem 1.

    Example:
        >>> two_layer_relu_weights(2500, 20)
        5020
    """
    return 2 * checks.integer("points", points, at_least=1) + checks.integer("dim", dim, at_least=1)


def three_layer_relu_capacity(first_width: int, second_width: int, outputs: int = 1) -> int:
    r"""Return the number of distinct points whose labels in [−1, 1]^k a three-layer ReLU network fits.

    .. math:: 4 \lfloor d_1 / 4 \rfloor \lfloor d_2 / (4 k) \rfloor

    Conditions: two hidden layers of widths d_1 and d_2; distinct points in any dimension.

    Status: **published**, taken as it stands.

    Args:
        first_width: d_1, from 1 up.
        second_width: d_2, from 1 up.
        outputs: k, from 1 up.

    Returns:
        The number of points, 0 where a layer is too narrow for the construction.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Yun, Sra, Jadbabaie 2019 (1810.07770), Theorem 3.1 and its corollary for ReLU.

    Example:
        >>> three_layer_relu_capacity(100, 100)
        2500
    """
    first = checks.integer("first_width", first_width, at_least=1)
    second = checks.integer("second_width", second_width, at_least=1)
    return 4 * (first // 4) * (second // (4 * checks.integer("outputs", outputs, at_least=1)))


@dataclass(frozen=True)
class OrderResult:
    """A result known up to constants or logarithms only, so that no number follows from it."""

    quantity: str
    order: str
    source: str


ORDER_RESULTS = (
    OrderResult(
        "associations of a linear memory with d² parameters",
        "d², up to logarithms of the vocabulary size",
        "Nichani, Lee, Bietti 2024 (2412.06538)",
    ),
    OrderResult(
        "associations of an MLP memory of width m in dimension d",
        "m d, up to logarithms",
        "Nichani, Lee, Bietti 2024 (2412.06538)",
    ),
    OrderResult(
        "parameters for the recall of S subjects' R relations by attention or MLP",
        "S R, up to logarithms",
        "Nichani, Lee, Bietti 2024 (2412.06538)",
    ),
    OrderResult(
        "contexts whose next-token distributions a one-layer decoder with k parameters interpolates",
        "Θ(k / (N − 1)); the upper half with its constant is `dimension_upper_bound`",
        "Madden, Fox, Thrampoulidis 2024 (2405.13718)",
    ),
    OrderResult(
        "parameters of a transformer that memorises n sequences of length S in dimension d",
        "Õ(d + S + √(S n))",
        "Kim, Kim, Mozafari 2023 (ICLR)",
    ),
    OrderResult(
        "parameters of a transformer that memorises the next token of n sequences",
        "Õ(√n), and Õ(√(S n)) sequence to sequence",
        "Kajitsuka, Sato 2024 (2409.17677)",
    ),
    OrderResult(
        "parameters of a ReLU network that memorises n separated points",
        "Õ(√n)",
        "Vardi, Yehudai, Shamir 2022 (2110.03187)",
    ),
    OrderResult(
        "parameters of an attention-only transformer that memorises T sequences by masks",
        "O((d + S)(S + N + T))",
        "Huben, Morris 2023, as quoted by 2411.10115",
    ),
    OrderResult(
        "divergence of an attention-only transformer that leaves contexts of mass ε unstored",
        "optimum + O(ε log(1/ε)); with constants, but given an encoder: `distribution_bound`",
        "Dana, Pydi, Chevaleyre 2024 (2411.10115), Theorem 3",
    ),
    OrderResult(
        "error of a linear associative memory of dimension d on Zipf data of exponent a after T samples",
        "d^(1−a) + T^(1/a−1); the two ingredients exactly: `zipf_tail`, `unseen_mass`",
        "Cabannes, Dohmatob, Bietti 2023 (2310.02984)",
    ),
    OrderResult(
        "patterns p of a d × d linear associative memory",
        "p log p / d² → 1/2, by the replica method of statistical physics",
        "Giorlandino, Goldt, Maillard 2026 (2605.10795)",
    ),
)
"""What the literature knows up to constants, logarithms or proof."""


def order_results() -> tuple[OrderResult, ...]:
    r"""Return the results on memorisation that are known up to constants, with their sources and without a number.

    .. math:: O(·), Θ(·), Õ(·)

    Conditions: those of the papers; the texts were read as abstracts only.

    Returns:
        A tuple of `OrderResult`.

    Source:
        The papers listed.

    Example:
        >>> len(order_results())
        11
    """
    return ORDER_RESULTS
