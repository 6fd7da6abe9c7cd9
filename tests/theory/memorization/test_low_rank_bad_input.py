"""Wrong arguments of the low-rank functions: each is refused with a ValueError that names parameter and value."""

import math

import numpy as np
import pytest

from plumbline.theory.memorization import (
    cell_bound,
    circle_cosines,
    circle_divergence,
    circle_scale,
    codimension_one_divergence,
    codimension_one_optimum,
    eckart_young_bound,
    geometric_law,
    lookup_divergence,
    noisy_lookup_bound,
    one_dimensional_divergence,
    optimal_low_rank,
    published_noisy_lookup_bound,
    rank_for_zero_divergence,
    small_signal_divergence,
    token_block_bound,
)
from tests.bad_input import assert_refused, battery

TABLE = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
PAIR = np.array([[0.2, 0.8]])
ON_TABLES = [
    (cell_bound, ()),
    (codimension_one_divergence, ([1, -1, 0],)),
    (codimension_one_optimum, ()),
    (eckart_young_bound, (1,)),
    (noisy_lookup_bound, ()),
    (optimal_low_rank, (1,)),
    (published_noisy_lookup_bound, (1000,)),
    (rank_for_zero_divergence, ()),
    (small_signal_divergence, (1,)),
    (token_block_bound, (1,)),
]
CASES = [
    (cell_bound, (PAIR,), {}, "task_or_table", "(1, 2)"),
    (cell_bound, (TABLE,), {"tolerance": 0}, "tolerance", "0.0"),
    (cell_bound, (TABLE,), {"max_cells": 0}, "max_cells", "0"),
    (circle_cosines, (1,), {}, "vocab_size", "1"),
    (circle_divergence, (-1, 5), {}, "scale", "-1.0"),
    (circle_divergence, (math.inf, 5), {}, "scale", "inf"),
    (circle_divergence, (1, 1), {}, "vocab_size", "1"),
    (circle_scale, (0, 5), {}, "divergence", "0.0"),
    (circle_scale, (1.7, 5), {}, "divergence", "1.7"),
    (circle_scale, (0.1, 2.5), {}, "vocab_size", "2.5"),
    (codimension_one_divergence, (TABLE, [1, -1]), {}, "direction", "(2,)"),
    (codimension_one_divergence, (TABLE, [0, 0, 0]), {}, "direction", "0"),
    (codimension_one_divergence, (TABLE, [1, -1, 0.1]), {}, "direction", "0.1"),
    (codimension_one_optimum, (PAIR,), {}, "task_or_table", "(1, 2)"),
    (codimension_one_optimum, (TABLE,), {"starts": 0}, "starts", "0"),
    (codimension_one_optimum, (TABLE,), {"seed": -1}, "seed", "-1"),
    (eckart_young_bound, (TABLE, -1), {}, "rank", "-1"),
    (eckart_young_bound, (TABLE, 1), {"upper": -0.1}, "upper", "-0.1"),
    (eckart_young_bound, (TABLE, 1), {"group_size": 0}, "group_size", "0"),
    (lookup_divergence, ([0.5, 0.6], 1), {}, "label_masses", "1.1"),
    (lookup_divergence, ([0.5, 0.5], -1), {}, "rank", "-1"),
    (noisy_lookup_bound, (TABLE,), {"cosines": (0, 1)}, "cosines", "(0.0, 1.0)"),
    (noisy_lookup_bound, (TABLE,), {"cosines": (0.5, 0)}, "cosines", "(0.5, 0.0)"),
    (noisy_lookup_bound, (TABLE,), {"cosines": (-1.1, 0)}, "cosines", "(-1.1, 0.0)"),
    (noisy_lookup_bound, ([[1.0]],), {}, "task_or_table", "(1, 1)"),
    (one_dimensional_divergence, ([1.5, -0.5],), {}, "label_masses", "-0.5"),
    (one_dimensional_divergence, (1.0,), {}, "label_masses", "()"),
    (optimal_low_rank, (TABLE, -1), {}, "rank", "-1"),
    (optimal_low_rank, (TABLE, 1.5), {}, "rank", "1.5"),
    (optimal_low_rank, (TABLE, 1), {"starts": 0}, "starts", "0"),
    (optimal_low_rank, (TABLE, 1), {"seed": None}, "seed", "None"),
    (optimal_low_rank, (TABLE, 1), {"max_iterations": 0}, "max_iterations", "0"),
    (published_noisy_lookup_bound, (TABLE, 100), {}, "rank", "100"),
    (published_noisy_lookup_bound, (TABLE, 0), {}, "rank", "0"),
    (rank_for_zero_divergence, ([[1.0, 0.0]],), {}, "task_or_table", "(0, 1)"),
    (rank_for_zero_divergence, (TABLE,), {"tolerance": -1}, "tolerance", "-1.0"),
    (small_signal_divergence, (np.eye(3), 1), {}, "task_or_table", "(0, 1)"),
    (small_signal_divergence, (TABLE, -1), {}, "rank", "-1"),
    (token_block_bound, (TABLE, 2), {}, "rank", "2"),
    (token_block_bound, (TABLE, 0), {}, "rank", "0"),
    (token_block_bound, (TABLE, 1), {"blocks": [[0, 1, 1]]}, "blocks", "[[0, 1, 1]]"),
    (token_block_bound, (TABLE, 1), {"blocks": [[0, 1, 3]]}, "blocks", "3"),
    (token_block_bound, (TABLE, 1), {"tolerance": math.nan}, "tolerance", "nan"),
    (token_block_bound, (TABLE, 1), {"max_cells": 0.5}, "max_cells", "0.5"),
    (token_block_bound, (TABLE, 1), {"seed": -3}, "seed", "-3"),
]  # fmt: skip
TABLE_CASES = [
    ([[0.2, 0.3, 0.4]], None, "task_or_table", "0.9 in row 0"),
    ([[0.2, -0.3, 1.1]], None, "task_or_table", "-0.3"),
    ([[0.2, math.nan, 0.8]], None, "task_or_table", "nan"),
    ([0.2, 0.3, 0.5], None, "task_or_table", "(3,)"),
    ("table", None, "task_or_table", "'table'"),
    (TABLE, [1.0], "prior", "(1,)"),
    (TABLE, [0.5, 0.6], "prior", "1.1"),
    (TABLE, [1.5, -0.5], "prior", "-0.5"),
    (geometric_law(3, 1, ratio=0.5), [1 / 3] * 3, "prior", "None"),
]


@battery(CASES)
def test_bad_numbers_are_refused(function, arguments, keywords, parameter, shown):
    """Each parameter of each function out of its range."""
    assert_refused(function, arguments, keywords, parameter, shown)


@pytest.mark.parametrize(("function", "more"), ON_TABLES)
@pytest.mark.parametrize(("table", "prior", "parameter", "shown"), TABLE_CASES)
def test_bad_tables_are_refused(function, more, table, prior, parameter, shown):
    """Every function that takes a table checks it, and its prior."""
    assert_refused(function, (table, *more), {"prior": prior}, parameter, shown)
