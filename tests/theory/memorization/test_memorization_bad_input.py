"""Bad input: every public entry refuses it with a ValueError that names the parameter and the value."""

import inspect
import math

import numpy as np
import pytest

import plumbline.theory.memorization as package
from plumbline.theory.memorization import (
    NgramTask,
    accuracy_lower_bound,
    attention_only_capacity,
    attention_only_parameters,
    best_constant_divergence,
    bit_upper_bound,
    compressed_attention_capacity,
    compressed_attention_parameters,
    conditional_entropy,
    dimension_upper_bound,
    distribution_bound,
    divergence,
    generic_rank,
    geometric_law,
    guaranteed_accuracy,
    heads_needed,
    independent_contexts,
    logit_oscillation,
    lookup_table,
    multi_head_capacity,
    published_capacity,
    sequence_encoder_parameters,
    three_layer_relu_capacity,
    threshold_network_width,
    two_layer_relu_weights,
    two_layer_relu_width,
    uniform_divergence,
    uniform_law,
    unseen_mass,
    zipf_law,
    zipf_tail,
)
from tests.bad_input import assert_refused, battery

NAN, INF = math.nan, math.inf
ROWS = [[0.5, 0.5], [0.2, 0.8]]
ZERO = [[0.0, 0.0], [0.0, 0.0]]
TASK = lookup_table(2, 1)

# (function, arguments, keyword arguments, parameter named in the message, value or remedy shown in the message)
CASES = [
    # The task
    (NgramTask, (1,), {}, "vocab_size", "1"),
    (NgramTask, (2.0,), {}, "vocab_size", "2.0"),
    (NgramTask, (True,), {}, "vocab_size", "True"),
    (NgramTask, ("2",), {}, "vocab_size", "'2'"),
    (NgramTask, (10**400,), {}, "vocab_size", "at most"),
    (NgramTask, (2, 0), {}, "context_length", "0"),
    (NgramTask, (2, 26), {}, "context_length", "26"),
    (NgramTask, (500, 2), {}, "context_length", "vocab_size 500"),
    (NgramTask, (2, 1, "geometrical"), {}, "law", "did you mean 'geometric'"),
    (NgramTask, (2, 1, None), {}, "law", "None"),
    (NgramTask, (2, 1, "geometric"), {}, "ratio", "None"),
    (NgramTask, (2, 1, "geometric"), {"ratio": 0}, "ratio", "0"),
    (NgramTask, (2, 1, "geometric"), {"ratio": 1.5}, "ratio", "1.5"),
    (NgramTask, (2, 1, "geometric"), {"ratio": NAN}, "ratio", "nan"),
    (NgramTask, (2, 1, "geometric"), {"ratio": [0.5]}, "ratio", "[0.5]"),
    (NgramTask, (2, 1, "uniform"), {"ratio": 0.5}, "ratio", "'uniform'"),
    (NgramTask, (2, 1, "zipf"), {}, "exponent", "None"),
    (NgramTask, (2, 1, "zipf"), {"exponent": -1}, "exponent", "-1"),
    (NgramTask, (2, 1, "zipf"), {"exponent": INF}, "exponent", "inf"),
    (NgramTask, (2, 1, "geometric"), {"ratio": 0.5, "exponent": 1}, "exponent", "'geometric'"),
    (NgramTask, (2, 1, "uniform"), {"support": 0}, "support", "0"),
    (NgramTask, (2, 1, "uniform"), {"support": 3}, "support", "3"),
    (NgramTask, (2, 1, "lookup"), {"support": 1}, "support", "'lookup'"),
    (NgramTask, (2, 1), {"seed": -1}, "seed", "-1"),
    (NgramTask, (2, 1), {"seed": 0.5}, "seed", "0.5"),
    (NgramTask, (2, 1), {"seed": None}, "seed", "None"),
    (NgramTask, (2, 1, "lookup"), {"next_tokens": [0]}, "next_tokens", "(1,)"),
    (NgramTask, (2, 1, "lookup"), {"next_tokens": [0, 2]}, "next_tokens", "2 at index (1,)"),
    (NgramTask, (2, 1, "lookup"), {"next_tokens": [-1, 0]}, "next_tokens", "-1"),
    (NgramTask, (2, 1, "lookup"), {"next_tokens": [0.5, 0]}, "next_tokens", "0.5"),
    (NgramTask, (2, 1, "lookup"), {"next_tokens": "ab"}, "next_tokens", "'ab'"),
    (NgramTask, (2, 1, "uniform"), {"next_tokens": [0, 1]}, "next_tokens", "'uniform'"),
    (NgramTask, (2, 1, "table"), {}, "table", "None"),
    (NgramTask, (2, 1, "table"), {"table": [[0.5, 0.5]]}, "table", "(1, 2)"),
    (NgramTask, (2, 1, "table"), {"table": [[0.5, 0.5], [0.5, 0.6]]}, "table", "1.1 in row 1"),
    (NgramTask, (2, 1, "table"), {"table": [[1.5, -0.5], [0.5, 0.5]]}, "table", "-0.5 at index (0, 1)"),
    (NgramTask, (2, 1, "table"), {"table": [[NAN, 0.5], [0.5, 0.5]]}, "table", "nan at index (0, 0)"),
    (NgramTask, (2, 1, "table"), {"table": [[INF, 0.5], [0.5, 0.5]]}, "table", "inf"),
    (NgramTask, (2, 1, "table"), {"table": [[0.5, 0.5], [0.5]]}, "table", "(2, 2)"),
    (NgramTask, (2, 1, "lookup"), {"table": ROWS}, "table", "'lookup'"),
    (NgramTask, (2, 1), {"initial": [0.5, 0.6]}, "initial", "1.1"),
    (NgramTask, (2, 1), {"initial": [1.5, -0.5]}, "initial", "-0.5"),
    (NgramTask, (2, 1), {"initial": [1.0]}, "initial", "(1,)"),
    (NgramTask, (2, 1), {"initial": ROWS}, "initial", "(2, 2)"),
    (NgramTask, (2, 1), {"window": -1}, "window", "-1"),
    (NgramTask, (2, 1), {"window": 10**5}, "window", "100000"),
    (geometric_law, (0,), {"ratio": 0.5}, "vocab_size", "0"),
    (geometric_law, (2, 0), {"ratio": 0.5}, "context_length", "0"),
    (geometric_law, (2,), {"ratio": -0.5}, "ratio", "-0.5"),
    (geometric_law, (2,), {"ratio": None}, "ratio", "None"),
    (geometric_law, (2,), {"ratio": 0.5, "support": 9}, "support", "9"),
    (geometric_law, (2,), {"ratio": 0.5, "seed": "a"}, "seed", "'a'"),
    (geometric_law, (2,), {"ratio": 0.5, "window": 0.5}, "window", "0.5"),
    (zipf_law, (0,), {"exponent": 1}, "vocab_size", "0"),
    (zipf_law, (2, -1), {"exponent": 1}, "context_length", "-1"),
    (zipf_law, (2,), {"exponent": "1"}, "exponent", "'1'"),
    (zipf_law, (2,), {"exponent": 1, "support": 0.5}, "support", "0.5"),
    (zipf_law, (2,), {"exponent": 1, "seed": -3}, "seed", "-3"),
    (zipf_law, (2,), {"exponent": 1, "window": -1}, "window", "-1"),
    (uniform_law, (1,), {}, "vocab_size", "1"),
    (uniform_law, (2, None), {}, "context_length", "None"),
    (uniform_law, (2,), {"support": -1}, "support", "-1"),
    (uniform_law, (2,), {"seed": NAN}, "seed", "nan"),
    (uniform_law, (2,), {"window": None}, "window", "None"),
    (lookup_table, (1,), {}, "vocab_size", "1"),
    (lookup_table, (2, 0), {}, "context_length", "0"),
    (lookup_table, (2, 1), {"labels": [0, 2]}, "labels", "2"),
    (lookup_table, (2, 1), {"labels": [0, NAN]}, "labels", "nan"),
    (lookup_table, (2, 1), {"seed": -1}, "seed", "-1"),
    # Entropies
    (conditional_entropy, ("task",), {}, "task", "'task'"),
    (uniform_divergence, (None,), {}, "task", "None"),
    (best_constant_divergence, (ROWS,), {}, "task", "0.5"),
    (divergence, ([[0.5, 0.6]], [[0, 0]]), {}, "task_or_table", "1.1 in row 0"),
    (divergence, (None, [[0, 0]]), {}, "task_or_table", "shape ()"),
    (divergence, (ROWS, [[0, 0]]), {}, "logits", "(1, 2)"),
    (divergence, (ROWS, [[0, 0], [0, INF]]), {}, "logits", "inf"),
    (divergence, (ROWS, [[0, 0], [1e301, 0]]), {}, "logits", "1e+301"),
    (divergence, (ROWS, ZERO), {"prior": [0.5, 0.6]}, "prior", "1.1"),
    (divergence, (ROWS, ZERO), {"prior": [1.0]}, "prior", "(1,)"),
    (divergence, (TASK, ZERO), {"prior": [0.5, 0.5]}, "prior", "NgramTask"),
    # Capacity
    (attention_only_capacity, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (attention_only_capacity, (1.5, 2, 2, 5, 2), {}, "heads", "1.5"),
    (attention_only_capacity, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (attention_only_capacity, (1, 2, 1, 5, 2), {}, "embed_dim", "at least 2, got 1"),
    (attention_only_capacity, (1, 2, 2, 1, 2), {}, "vocab_size", "1"),
    (attention_only_capacity, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (attention_only_capacity, (1, 2, 2, 5, 10**6), {}, "context_length", "1000000"),
    (attention_only_capacity, (1, 2, 2, 5, 2, 26), {}, "contexts", "at most 25, got 26"),
    (attention_only_capacity, (1, 2, 2, 5, 2, -1), {}, "contexts", "-1"),
    (attention_only_capacity, (1, 2, 2, 5, 2, [[0, 1]]), {}, "contexts", "[[0, 1]]"),
    (attention_only_capacity, (1, 2, 2, 5, 2, 11, 2), {}, "last_tokens", "at least 3, got 2"),
    (attention_only_capacity, (1, 2, 2, 5, 2, 11, 6), {}, "last_tokens", "at most 5, got 6"),
    (attention_only_capacity, (1, 2, 2, 5, 2, 3, 4), {}, "last_tokens", "at most 3, got 4"),
    (compressed_attention_capacity, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (compressed_attention_capacity, (1, 1, 2, 5, 2), {}, "head_dim", "at least 2, got 1"),
    (compressed_attention_capacity, (1, 2, 1, 5, 2), {}, "embed_dim", "1"),
    (compressed_attention_capacity, (1, 2, 2, 0, 2), {}, "vocab_size", "0"),
    (compressed_attention_capacity, (1, 2, 2, 5, NAN), {}, "context_length", "nan"),
    (compressed_attention_capacity, (1, 2, 2, 5, 2, 26), {}, "contexts", "26"),
    (compressed_attention_capacity, (1, 2, 2, 5, 2, 5, 0), {}, "last_tokens", "0"),
    (heads_needed, (0, 2, 2, 5, 2), {}, "contexts", "0"),
    (heads_needed, (26, 2, 2, 5, 2), {}, "contexts", "26"),
    (heads_needed, (None, 2, 2, 5, 2), {}, "contexts", "None"),
    (heads_needed, (3, 2, 2, 5, 1), {}, "contexts", "heads add nothing, got 3"),
    (heads_needed, (5, 0, 2, 5, 2), {}, "head_dim", "0"),
    (heads_needed, (5, 2, 0, 5, 2), {}, "embed_dim", "0"),
    (heads_needed, (5, 2, 2, -5, 2), {}, "vocab_size", "-5"),
    (heads_needed, (5, 2, 2, 5, -2), {}, "context_length", "-2"),
    (heads_needed, (5, 2, 2, 5, 2, 9), {}, "last_tokens", "9"),
    (published_capacity, (-1, 2, 2), {}, "heads", "-1"),
    (published_capacity, (1, 0, 2), {}, "head_dim", "0"),
    (published_capacity, (1, 2, 0), {}, "embed_dim", "0"),
    (multi_head_capacity, (-1, 2, 2, 2), {}, "heads", "-1"),
    (multi_head_capacity, (1, 0, 2, 2), {}, "head_dim", "0"),
    (multi_head_capacity, (1, 2, 0, 2), {}, "embed_dim", "0"),
    (multi_head_capacity, (1, 2, 2, 3), {}, "context_length", "at most 2, got 3"),
    (multi_head_capacity, (1, 2, 2, 0), {}, "context_length", "0"),
    # Accuracy
    (accuracy_lower_bound, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (accuracy_lower_bound, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (accuracy_lower_bound, (1, 2, 1, 5, 2), {}, "embed_dim", "1"),
    (accuracy_lower_bound, (1, 2, 2, 1, 2), {}, "vocab_size", "1"),
    (accuracy_lower_bound, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (accuracy_lower_bound, (1, 2, 2, 2, 1), {"prior": [0.5, 0.4]}, "prior", "0.9"),
    (guaranteed_accuracy, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (guaranteed_accuracy, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (guaranteed_accuracy, (1, 2, 1, 5, 2), {}, "embed_dim", "1"),
    (guaranteed_accuracy, (1, 2, 2, 1, 2), {}, "vocab_size", "1"),
    (guaranteed_accuracy, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (guaranteed_accuracy, (1, 2, 2, 5, 2), {"prior": [0.5, 0.5]}, "prior", "(2,)"),
    (guaranteed_accuracy, (1, 2, 2, 50, 400), {"prior": [1.0]}, "context_length", "400"),
    # Ranks
    (generic_rank, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (generic_rank, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (generic_rank, (1, 2, 10**6, 5, 2), {}, "embed_dim", "1000000"),
    (generic_rank, (1, 2, 2, 1, 2), {}, "vocab_size", "1"),
    (generic_rank, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (generic_rank, (1, 2, 2, 50, 9), {}, "contexts", "None with vocab_size 50"),
    (generic_rank, (1, 2, 2, 50, 90), {}, "contexts", "context_length 90"),
    (generic_rank, (100, 1000, 2, 1000, 2, np.indices((1000, 1000)).reshape(2, -1).T[:400]), {}, "contexts", "400"),
    (generic_rank, (1, 2, 2, 5, 2, [[0, 5]]), {}, "contexts", "5 at index (0, 1)"),
    (generic_rank, (1, 2, 2, 5, 2, [[0, 0.5]]), {}, "contexts", "0.5"),
    (generic_rank, (1, 2, 2, 5, 2, [[0, 1, 2]]), {}, "contexts", "(1, 3)"),
    (generic_rank, (1, 2, 2, 5, 2, [[0, 1], [2, 1], [0, 1]]), {}, "contexts", "[0, 1] again at index 2"),
    (generic_rank, (1, 2, 2, 5, 2), {"architecture": "compress"}, "architecture", "did you mean 'compressed'"),
    (generic_rank, (1, 2, 2, 5, 2), {"seed": -1}, "seed", "-1"),
    (generic_rank, (1, 2, 2, 5, 2), {"draws": 0}, "draws", "0"),
    (independent_contexts, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (independent_contexts, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (independent_contexts, (1, 2, 0, 5, 2), {}, "embed_dim", "0"),
    (independent_contexts, (1, 2, 2, 1, 2), {}, "vocab_size", "1"),
    (independent_contexts, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (independent_contexts, (1, 2, 2, 5, 2, [[0, 1], [0, 1]]), {}, "contexts", "[0, 1]"),
    (independent_contexts, (1, 2, 2, 5, 2, []), {}, "contexts", "(0,)"),
    (independent_contexts, (1, 2, 2, 5, 2), {"architecture": None}, "architecture", "None"),
    (independent_contexts, (1, 2, 2, 5, 2), {"seed": 1.5}, "seed", "1.5"),
    # Parameters
    (attention_only_parameters, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (attention_only_parameters, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (attention_only_parameters, (1, 2, 0, 5, 2), {}, "embed_dim", "0"),
    (attention_only_parameters, (1, 2, 2, 0, 2), {}, "vocab_size", "0"),
    (attention_only_parameters, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (compressed_attention_parameters, (-1, 2, 2, 5, 2), {}, "heads", "-1"),
    (compressed_attention_parameters, (1, 0, 2, 5, 2), {}, "head_dim", "0"),
    (compressed_attention_parameters, (1, 2, 0, 5, 2), {}, "embed_dim", "0"),
    (compressed_attention_parameters, (1, 2, 2, 0, 2), {}, "vocab_size", "0"),
    (compressed_attention_parameters, (1, 2, 2, 5, 0), {}, "context_length", "0"),
    (compressed_attention_parameters, (1, 2, 2, 5, 2), {"layers": 0}, "layers", "0"),
    (compressed_attention_parameters, (1, 2, 2, 5, 2), {"mlp_width": -1}, "mlp_width", "-1"),
    (sequence_encoder_parameters, (-1, 5, 2), {}, "embed_dim", "-1"),
    (sequence_encoder_parameters, (2, 0, 2), {}, "vocab_size", "0"),
    (sequence_encoder_parameters, (2, 5, 0), {}, "context_length", "0"),
    # Other bounds
    (dimension_upper_bound, (-1, 2), {}, "parameters", "-1"),
    (dimension_upper_bound, (5, 0), {}, "outputs", "0"),
    (bit_upper_bound, (-1, 8, 5), {}, "parameters", "-1"),
    (bit_upper_bound, (10**16, 8, 5), {}, "parameters", "at most"),
    (bit_upper_bound, (5, 0, 5), {}, "bits", "0"),
    (bit_upper_bound, (5, 8, 1), {}, "vocab_size", "1"),
    (threshold_network_width, (0, 2), {}, "points", "0"),
    (threshold_network_width, (2, 0), {}, "dim", "0"),
    (two_layer_relu_width, (0, 2), {}, "points", "0"),
    (two_layer_relu_width, (2, 0.5), {}, "dim", "0.5"),
    (two_layer_relu_weights, (0, 2), {}, "points", "0"),
    (two_layer_relu_weights, (2, 0), {}, "dim", "0"),
    (three_layer_relu_capacity, (0, 2), {}, "first_width", "0"),
    (three_layer_relu_capacity, (2, 0), {}, "second_width", "0"),
    (three_layer_relu_capacity, (2, 2, 0), {}, "outputs", "0"),
    (zipf_tail, (1.0, 5), {}, "exponent", "1.0"),
    (zipf_tail, (2000.0, 5), {}, "exponent", "2000"),
    (zipf_tail, (2.0, -1), {}, "rank", "-1"),
    (unseen_mass, ([0.5, 0.4], 5), {}, "probabilities", "0.9"),
    (unseen_mass, ([], 5), {}, "probabilities", "(0,)"),
    (unseen_mass, ([0.5, 0.5], -1), {}, "samples", "-1"),
    # The distribution bound
    (logit_oscillation, ([0.0], [[0.0]]), {}, "first", "(1,)"),
    (logit_oscillation, ([[NAN]], [[0.0]]), {}, "first", "nan"),
    (logit_oscillation, ([[0.0]], [[0.0, 1.0]]), {}, "second", "(1, 2)"),
    (distribution_bound, ([[0.5, 0.6]], [[0, 0]], []), {"model_logits": [[0, 0]]}, "task_or_table", "1.1"),
    (distribution_bound, (ROWS, [[0, 0]], []), {"model_logits": ZERO}, "encoder", "(1, 2)"),
    (distribution_bound, (ROWS, (ZERO, [[1.0]]), []), {"model_logits": ZERO}, "encoder", "(1, 1)"),
    (distribution_bound, (ROWS, ZERO, [2]), {"model_logits": ZERO}, "stored", "2 at index"),
    (distribution_bound, (ROWS, ZERO, [0, 0]), {"model_logits": ZERO}, "stored", "[0, 0]"),
    (distribution_bound, (ROWS, ZERO, [0]), {"model_logits": [[0, 1], [0, 0]]}, "stored", "oscillation of 1"),
    (distribution_bound, (ROWS, ZERO, [0]), {}, "model_logits", "both or none"),
    (distribution_bound, (ROWS, ZERO, [0]), {"model_logits": ZERO, "features": ZERO}, "model_logits", "both or none"),
    (distribution_bound, (ROWS, ZERO, [0]), {"model_logits": [[0, 0]]}, "model_logits", "(1, 2)"),
    (distribution_bound, (ROWS, ZERO, [0]), {"features": [[1.0]]}, "features", "(1, 1)"),
    (distribution_bound, (ROWS, ZERO, [0]), {"features": [[INF], [0]]}, "features", "inf"),
    (distribution_bound, (ROWS, ZERO, [0]), {"features": ZERO, "prior": [1, 1]}, "prior", "2"),
    (distribution_bound, (TASK, ZERO, [0]), {"features": ZERO, "prior": [0.5, 0.5]}, "prior", "NgramTask"),
]  # fmt: skip

FLAGS = {"rank_one", "dead"}


@battery(CASES)
def test_bad_input_is_refused(function, arguments, keywords, parameter, shown):
    """Each parameter of each function out of its range."""
    assert_refused(function, arguments, keywords, parameter, shown)


def test_the_battery_covers_every_parameter():
    """Every parameter of every public function of these modules but flags is among the bad calls."""
    named = {(case[0], case[3]) for case in CASES}
    functions = {case[0] for case in CASES}
    modules = {function.__module__ for function in functions}
    for name in package.__all__:
        member = getattr(package, name)
        if inspect.isfunction(member) and member.__module__ in modules and inspect.signature(member).parameters:
            assert member in functions, name
    for function in functions:
        for parameter in set(inspect.signature(function).parameters) - FLAGS:
            assert (function, parameter) in named


def test_numbers_of_other_kinds_are_taken():
    """numpy integers and arrays are numbers too, and a task keeps plain ones."""
    task = NgramTask(np.int64(2), np.array(1), "table", table=np.array(ROWS), initial=(0.25, 0.75), window=np.int32(1))
    assert task == NgramTask(2, 1, "table", table=ROWS, initial=[0.25, 0.75], window=1)
    assert type(task.vocab_size) is type(task.context_length) is type(task.window) is int
    assert lookup_table(2, 1, labels=np.array([1, 0])) == lookup_table(2, 1, labels=[1.0, 0.0])
    assert attention_only_capacity(np.int64(31), np.int64(10), 10, 50, 2) == 320
    assert generic_rank(1, 2, 2, 3, 2, np.array([[0, 1], [1, 1]], dtype=np.uint8)).rank == 2


def test_extreme_sizes_are_computed():
    """The largest sizes that are accepted give numbers, not overflows."""
    assert attention_only_capacity(10**9, 10**6, 10**6, 10**5, 800) == 10**9 * (10**5 + 798) + 10**5
    assert accuracy_lower_bound(3, 4, 5, 10**5, 800) == pytest.approx(1e-5)
    assert zipf_tail(1000.0, 0) == 1
    assert zipf_tail(2.0, 10**12) == pytest.approx(6 / math.pi**2 * 1e-12, rel=1e-9)
    assert unseen_mass([1.0], 0) == 1
    assert unseen_mass([1.0, 0.0], 5) == 0
    assert divergence([[0.5, 0.5]], [[1e300, -1e300]]) == 1e300
