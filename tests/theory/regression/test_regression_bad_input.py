"""Bad input: every public entry refuses it with a ValueError that names the parameter and the value."""

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest

import plumbline.theory.regression as package
from plumbline.theory import checks
from plumbline.theory.regression import (
    RegressionTask,
    bayes_limit,
    bayes_risk,
    degree_bound,
    gd_plus_plus_optimum,
    gd_plus_plus_risk,
    gradient_at_zero,
    gradient_degree,
    gradient_descent_optimum,
    gradient_descent_risk,
    gradient_noise,
    gradient_noise_at_zero,
    hessian_at_zero,
    largest_stable_step,
    least_squares_limit,
    least_squares_risk,
    linear_transformer_risk,
    looped_limit,
    looped_optimum,
    looped_rotation_curvature,
    multi_step_hessian,
    multi_step_limit,
    multi_step_optimum,
    multi_step_risk,
    noisy_multi_step_optimum,
    noisy_multi_step_risk,
    one_layer_descent,
    one_layer_flow,
    one_layer_gradient,
    one_layer_hessian,
    one_layer_spectrum,
    one_step_optimum,
    one_step_risk,
    ridge_risk,
    robust_condition_number,
    spectral_moments,
    spectral_quadrature,
    tail_exponent,
    wishart_moment,
    zero_predictor_risk,
)
from tests.bad_input import assert_refused, battery

NAN, INF = math.nan, math.inf
TASK = RegressionTask(2, 5)
SPHERE = RegressionTask(2, 5, covariate_law="sphere")
ANISOTROPIC = RegressionTask(3, 2, covariance=np.diag([1.0, 2.0, 3.0]))
NOISY = RegressionTask(2, 5, weight_covariance=[[2, 0], [0, 1]], noise_variance=1)
EYE = np.eye(2)

# (function, arguments, keyword arguments, parameter named in the message, value or remedy shown in the message)
CASES = [
    # The task
    (RegressionTask, (0, 5), {}, "dim", "0"),
    (RegressionTask, (-3, 5), {}, "dim", "-3"),
    (RegressionTask, (2.5, 5), {}, "dim", "2.5"),
    (RegressionTask, (2.0, 5), {}, "dim", "2.0"),
    (RegressionTask, (True, 5), {}, "dim", "True"),
    (RegressionTask, ("2", 5), {}, "dim", "'2'"),
    (RegressionTask, (None, 5), {}, "dim", "None"),
    (RegressionTask, (10**400, 5), {}, "dim", "at most"),
    (RegressionTask, (2, 0), {}, "context_length", "0"),
    (RegressionTask, (2, 0.5), {}, "context_length", "0.5"),
    (RegressionTask, (2, NAN), {}, "context_length", "nan"),
    (RegressionTask, (2, np.True_), {}, "context_length", "True"),
    (RegressionTask, (2, [5]), {}, "context_length", "[5]"),
    (RegressionTask, (2, 10**13), {}, "context_length", "10000000000000"),
    (RegressionTask, (2, 5), {"covariance": np.eye(3)}, "covariance", "(3, 3)"),
    (RegressionTask, (2, 5), {"covariance": 1.0}, "covariance", "()"),
    (RegressionTask, (2, 5), {"covariance": [1.0, 1.0]}, "covariance", "(2,)"),
    (RegressionTask, (2, 5), {"covariance": [[1, 0], [0]]}, "covariance", "[[1, 0], [0]]"),
    (RegressionTask, (2, 5), {"covariance": [[1, NAN], [NAN, 1]]}, "covariance", "nan at index (0, 1)"),
    (RegressionTask, (2, 5), {"covariance": [[1, 0], [0, INF]]}, "covariance", "inf at index (1, 1)"),
    (RegressionTask, (2, 5), {"covariance": [[1, 0.5], [0.4, 1]]}, "covariance", "0.1"),
    (RegressionTask, (2, 5), {"covariance": [[1, 2], [2, 1]]}, "covariance", "eigenvalue -1"),
    (RegressionTask, (2, 5), {"covariance": [[1, 1], [1, 1]]}, "covariance", "eigenvalue"),
    (RegressionTask, (2, 5), {"covariance": np.zeros((2, 2))}, "covariance", "eigenvalue 0"),
    (RegressionTask, (2, 5), {"covariance": EYE * 1j}, "covariance", "1.j"),
    (RegressionTask, (2, 5), {"covariance": [["1", "0"], ["0", "1"]]}, "covariance", "'1'"),
    (RegressionTask, (2, 5), {"covariance": EYE.astype(bool)}, "covariance", "True"),
    (RegressionTask, (2, 5), {"covariance": EYE * 1e80}, "covariance", "1e+80"),
    (RegressionTask, (2, 5), {"covariance": EYE * 1e-80}, "covariance", "1e-80"),
    (RegressionTask, (2, 5), {"covariance": "identity"}, "covariance", "'identity'"),
    (RegressionTask, (2, 5), {"weight_covariance": [[1, 0], [0, -0.25]]}, "weight_covariance", "-0.25"),
    (RegressionTask, (2, 5), {"weight_covariance": [[1, 1], [0, 1]]}, "weight_covariance", "1"),
    (RegressionTask, (2, 5), {"weight_covariance": np.eye(1)}, "weight_covariance", "(1, 1)"),
    (RegressionTask, (2, 5), {"weight_covariance": [[10**400, 0], [0, 1]]}, "weight_covariance", "real array"),
    (RegressionTask, (2, 5), {"noise_variance": -0.5}, "noise_variance", "-0.5"),
    (RegressionTask, (2, 5), {"noise_variance": NAN}, "noise_variance", "nan"),
    (RegressionTask, (2, 5), {"noise_variance": INF}, "noise_variance", "inf"),
    (RegressionTask, (2, 5), {"noise_variance": 1e300}, "noise_variance", "1e+300"),
    (RegressionTask, (2, 5), {"noise_variance": True}, "noise_variance", "True"),
    (RegressionTask, (2, 5), {"noise_variance": "0.1"}, "noise_variance", "'0.1'"),
    (RegressionTask, (2, 5), {"noise_variance": 1j}, "noise_variance", "1j"),
    (RegressionTask, (2, 5), {"noise_variance": [0.1]}, "noise_variance", "[0.1]"),
    (RegressionTask, (2, 5), {"noise_variance": np.array([0.1])}, "noise_variance", "0.1"),
    (RegressionTask, (2, 5), {"noise_variance": None}, "noise_variance", "None"),
    (RegressionTask, (2, 5), {"noise_variance": 10**400}, "noise_variance", "real number"),
    (RegressionTask, (2, 5), {"covariate_law": "gausian"}, "covariate_law", "did you mean 'gaussian'?"),
    (RegressionTask, (2, 5), {"covariate_law": "spheres"}, "covariate_law", "did you mean 'sphere'?"),
    (RegressionTask, (2, 5), {"covariate_law": None}, "covariate_law", "None"),
    (RegressionTask, (2, 5), {"covariate_law": 3}, "covariate_law", "3"),
    (RegressionTask, (2, 5), {"covariate_law": "gamma"}, "gamma_shape", "None"),
    (RegressionTask, (2, 5), {"covariate_law": "gamma", "gamma_shape": 0}, "gamma_shape", "0.0"),
    (RegressionTask, (2, 5), {"covariate_law": "gamma", "gamma_shape": -1}, "gamma_shape", "-1.0"),
    (RegressionTask, (2, 5), {"covariate_law": "gamma", "gamma_shape": INF}, "gamma_shape", "inf"),
    (RegressionTask, (2, 5), {"gamma_shape": 2.0}, "gamma_shape", "2.0"),
    # One step
    (one_step_optimum, ("task",), {}, "task", "'task'"),
    (one_step_optimum, (None,), {}, "task", "None"),
    (one_step_risk, (5, EYE), {}, "task", "5"),
    (one_step_risk, (TASK, np.eye(3)), {}, "preconditioner", "(3, 3)"),
    (one_step_risk, (TASK, 0.5), {}, "preconditioner", "()"),
    (one_step_risk, (TASK, [[1, 0], [0, NAN]]), {}, "preconditioner", "nan at index (1, 1)"),
    (one_step_risk, (TASK, EYE * 1j), {}, "preconditioner", "j"),
    (one_step_risk, (TASK, [["a", "b"], ["c", "d"]]), {}, "preconditioner", "'a'"),
    (one_step_risk, (TASK, [[1e300, 1e300], [-1e300, 1e300]]), {}, "preconditioner", "1e+300"),
    (one_step_risk, (TASK, EYE, 0), {}, "test_length", "0"),
    (one_step_risk, (TASK, EYE, 2.5), {}, "test_length", "2.5"),
    (one_step_risk, (TASK, EYE, INF), {}, "test_length", "inf"),
    # Several steps
    (multi_step_risk, ([], 5, 20), {}, "step_sizes", "(0,)"),
    (multi_step_risk, (0.5, 5, 20), {}, "step_sizes", "()"),
    (multi_step_risk, ([[0.5]], 5, 20), {}, "step_sizes", "(1, 1)"),
    (multi_step_risk, ([0.5, INF], 5, 20), {}, "step_sizes", "inf at index (1,)"),
    (multi_step_risk, (["0.5"], 5, 20), {}, "step_sizes", "'0.5'"),
    (multi_step_risk, ([True], 5, 20), {}, "step_sizes", "True"),
    (multi_step_risk, ([0.5j], 5, 20), {}, "step_sizes", "0.5j"),
    (multi_step_risk, ([Fraction(1, 2), "0.5"], 5, 20), {}, "step_sizes", "'0.5'"),
    (multi_step_risk, ([1e200], 5, 20), {}, "step_sizes", "1e+200"),
    (multi_step_risk, ([0.5] * 48, 5, 20), {}, "steps", "48"),
    (multi_step_risk, ([0.5], 0, 20), {}, "dim", "0"),
    (multi_step_risk, ([0.5], 5, -1), {}, "context_length", "-1"),
    (looped_rotation_curvature, (16, 5, 20), {}, "steps", "16"),
    (looped_rotation_curvature, (2, 1, 20), {}, "dim", "1"),
    (looped_rotation_curvature, (2, 5, 0), {}, "context_length", "0"),
    (multi_step_optimum, (0, 5, 20), {}, "steps", "0"),
    (multi_step_optimum, (48, 5, 20), {}, "steps", "48"),
    (multi_step_optimum, (2.0, 5, 20), {}, "steps", "2.0"),
    (multi_step_optimum, (True, 5, 20), {}, "steps", "True"),
    (multi_step_optimum, (2, "5", 20), {}, "dim", "'5'"),
    (multi_step_optimum, (2, 5, 0), {}, "context_length", "0"),
    (multi_step_optimum, (2, 5, 10**400), {}, "context_length", "at most"),
    (looped_optimum, (0, 5, 20), {}, "steps", "0"),
    (looped_optimum, (100, 5, 20), {}, "steps", "100"),
    (looped_optimum, (2, 0, 20), {}, "dim", "0"),
    (looped_optimum, (2, 5, 1.5), {}, "context_length", "1.5"),
    (degree_bound, (-1, 5, 20), {}, "degree", "-1"),
    (degree_bound, (48, 5, 20), {}, "degree", "48"),
    (degree_bound, (1, 0, 20), {}, "dim", "0"),
    (degree_bound, (1, 5, None), {}, "context_length", "None"),
    # Noise
    (noisy_multi_step_risk, ([0.5], 5, 20, -1), {}, "noise_variance", "-1"),
    (noisy_multi_step_risk, ([0.5], 5, 20, NAN), {}, "noise_variance", "nan"),
    (noisy_multi_step_risk, ([NAN], 5, 20, 1), {}, "step_sizes", "nan"),
    (noisy_multi_step_risk, ([1e300], 5, 20, 1), {}, "step_sizes", "1e+300"),
    (noisy_multi_step_risk, ([0.5], 1.5, 20, 1), {}, "dim", "1.5"),
    (noisy_multi_step_risk, ([0.5], 5, 0, 1), {}, "context_length", "0"),
    (noisy_multi_step_optimum, (13, 5, 20, 1), {}, "steps", "13"),
    (noisy_multi_step_optimum, (0, 5, 20, 1), {}, "steps", "0"),
    (noisy_multi_step_optimum, (2, 0, 20, 1), {}, "dim", "0"),
    (noisy_multi_step_optimum, (2, 5, -20, 1), {}, "context_length", "-20"),
    (noisy_multi_step_optimum, (2, 5, 20, "1"), {}, "noise_variance", "'1'"),
    (noisy_multi_step_optimum, (2, 5, 20, -1e-9), {}, "noise_variance", "-1e-09"),
    (noisy_multi_step_optimum, (2, 5, 20, 1e300), {}, "noise_variance", "1e+300"),
    # GD++
    (gd_plus_plus_risk, ([0.5, 0.5], [], 5, 20), {}, "shrinkages", "(0,)"),
    (gd_plus_plus_risk, ([0.5, 0.5], [1, 1, 1], 5, 20), {}, "shrinkages", "3"),
    (gd_plus_plus_risk, ([0.5, 0.5, 0.5], [1], 5, 20), {}, "shrinkages", "1"),
    (gd_plus_plus_risk, ([0.5, 0.5], [NAN], 5, 20), {}, "shrinkages", "nan"),
    (gd_plus_plus_risk, ([0.5, 0.5], 1.0, 5, 20), {}, "shrinkages", "()"),
    (gd_plus_plus_risk, ([0.5] * 5, [0.5] * 4, 5, 20), {}, "step_sizes", "5"),
    (gd_plus_plus_risk, ([], [], 5, 20), {}, "step_sizes", "(0,)"),
    (gd_plus_plus_risk, ([1e200, 1.0], [1.0], 5, 20), {}, "step_sizes", "1e+200"),
    (gd_plus_plus_risk, ([0.5], [], 5, 0), {}, "context_length", "0"),
    (gd_plus_plus_risk, ([0.5], [], None, 20), {}, "dim", "None"),
    (gd_plus_plus_optimum, (0, 5, 20), {}, "layers", "0"),
    (gd_plus_plus_optimum, (4, 5, 20), {}, "layers", "4"),
    (gd_plus_plus_optimum, (2, 0, 20), {}, "dim", "0"),
    (gd_plus_plus_optimum, (2, 5, "20"), {}, "context_length", "'20'"),
    (gd_plus_plus_optimum, (2, 5, 20), {"starts": 0}, "starts", "0"),
    (gd_plus_plus_optimum, (2, 5, 20), {"seed": -1}, "seed", "-1"),
    (gd_plus_plus_optimum, (2, 5, 20), {"seed": None}, "seed", "None"),
    # Plain gradient descent
    (gradient_descent_risk, (NAN, 2, TASK), {}, "step_size", "nan"),
    (gradient_descent_risk, ([0.5], 2, TASK), {}, "step_size", "[0.5]"),
    (gradient_descent_risk, (1e300, 2, TASK), {}, "step_size", "1e+300"),
    (gradient_descent_risk, (0.5, 0, TASK), {}, "steps", "0"),
    (gradient_descent_risk, (0.5, 2, SPHERE), {}, "task.covariate_law", "'sphere'"),
    (gradient_descent_risk, (0.5, 2, "task"), {}, "task", "'task'"),
    (gradient_descent_optimum, (11, TASK), {}, "steps", "11"),
    (gradient_descent_optimum, (1.0, TASK), {}, "steps", "1.0"),
    (gradient_descent_optimum, (2, SPHERE), {}, "task.covariate_law", "'sphere'"),
    (gradient_descent_optimum, (2, 5), {}, "task", "5"),
    # Estimators
    (zero_predictor_risk, (3,), {}, "task", "3"),
    (least_squares_risk, (SPHERE,), {}, "task.covariate_law", "'sphere'"),
    (least_squares_risk, (ANISOTROPIC,), {}, "task.covariance", "whitened=True"),
    (least_squares_risk, (None,), {}, "task", "None"),
    (ridge_risk, (TASK,), {}, "penalty", "None"),
    (ridge_risk, (TASK, 0), {}, "penalty", "0.0"),
    (ridge_risk, (TASK, -0.5), {}, "penalty", "-0.5"),
    (ridge_risk, (TASK, INF), {}, "penalty", "inf"),
    (ridge_risk, (TASK, "0.1"), {}, "penalty", "'0.1'"),
    (ridge_risk, (SPHERE, 0.1), {}, "task.covariate_law", "'sphere'"),
    (bayes_risk, (SPHERE,), {}, "task.covariate_law", "'sphere'"),
    (bayes_risk, (NOISY,), {}, "task.weight_covariance", "[1. 2.]"),
    (bayes_risk, ([],), {}, "task", "[]"),
    # Limits
    (multi_step_limit, (0, 0.5), {}, "steps", "0"),
    (multi_step_limit, (10_001, 0.5), {}, "steps", "10001"),
    (multi_step_limit, (2, 0), {}, "ratio", "0.0"),
    (multi_step_limit, (2, NAN), {}, "ratio", "nan"),
    (looped_limit, (2, -1), {}, "ratio", "-1.0"),
    (looped_limit, (1.5, 1), {}, "steps", "1.5"),
    (least_squares_limit, (0.0,), {}, "ratio", "0.0"),
    (least_squares_limit, (0.5, -0.1), {}, "noise_to_signal", "-0.1"),
    (bayes_limit, (INF, 1), {}, "ratio", "inf"),
    (bayes_limit, (1, NAN), {}, "noise_to_signal", "nan"),
    (bayes_limit, (1, "1"), {}, "noise_to_signal", "'1'"),
    # Weights
    (linear_transformer_risk, (None, np.eye(3)[None], RegressionTask(3, 4)), {"draws": 1}, "draws", "1"),
    (linear_transformer_risk, (None, EYE, TASK), {"draws": 2.5}, "draws", "2.5"),
    (linear_transformer_risk, (None, EYE, TASK), {"seed": -1}, "seed", "-1"),
    (linear_transformer_risk, (None, np.eye(3), TASK), {}, "value", "None"),
    (linear_transformer_risk, (None, np.eye(4), TASK), {}, "key_query", "(4, 4)"),
    (linear_transformer_risk, (None, np.ones((2, 3)), TASK), {}, "key_query", "(2, 3)"),
    (linear_transformer_risk, (None, 1.0, TASK), {}, "key_query", "()"),
    (linear_transformer_risk, (None, np.ones((1, 1, 1, 2, 2)), TASK), {}, "key_query", "(1, 1, 1, 2, 2)"),
    (linear_transformer_risk, (None, np.ones((0, 2, 2)), TASK), {}, "key_query", "(0, 2, 2)"),
    (linear_transformer_risk, (None, np.ones((1, 0, 2, 2)), TASK), {}, "key_query", "(1, 0, 2, 2)"),
    (linear_transformer_risk, (None, [[1, NAN], [0, 1]], TASK), {}, "key_query", "nan"),
    (linear_transformer_risk, (None, [[1, 0], [0]], TASK), {}, "key_query", "()"),
    (linear_transformer_risk, (None, EYE * 1j, TASK), {}, "key_query", "j"),
    (linear_transformer_risk, (EYE, np.stack([EYE, EYE]), TASK), {}, "value", "(1, 1, 2, 2)"),
    (linear_transformer_risk, (np.eye(3), EYE, TASK), {}, "value", "(1, 1, 3, 3)"),
    (linear_transformer_risk, ([[INF, 0], [0, 1]], EYE, TASK), {}, "value", "inf"),
    (linear_transformer_risk, (None, np.full((2, 2, 2), 1e300), TASK), {}, "key_query", "1.e+300"),
    (linear_transformer_risk, (None, EYE, "task"), {}, "task", "'task'"),
    # The landscape
    (one_layer_gradient, ("task", EYE), {}, "task", "'task'"),
    (one_layer_gradient, (TASK, np.eye(3)), {}, "matrix", "(3, 3)"),
    (one_layer_gradient, (TASK, [[1, NAN], [0, 1]]), {}, "matrix", "nan at index (0, 1)"),
    (one_layer_gradient, (TASK, EYE * 1j), {}, "matrix", "j"),
    (one_layer_gradient, (TASK, EYE * 1.7e308), {}, "matrix", "1.7e+308"),
    (one_layer_hessian, (None,), {}, "task", "None"),
    (one_layer_hessian, (RegressionTask(200, 5),), {}, "task.dim", "40000"),
    (one_layer_spectrum, (5,), {}, "task", "5"),
    (gradient_at_zero, ([], 2), {}, "task", "[]"),
    (gradient_at_zero, (TASK, 0), {}, "layers", "0"),
    (gradient_at_zero, (TASK, 2.0), {}, "layers", "2.0"),
    (hessian_at_zero, (2, TASK), {}, "task", "2"),
    (hessian_at_zero, (TASK, 65), {}, "layers", "65"),
    (hessian_at_zero, (TASK, True), {}, "layers", "True"),
    (hessian_at_zero, (RegressionTask(40, 5), 10), {}, "layers", "32000"),
    # Descent
    (one_layer_descent, ("task", EYE, 0.1, 2), {}, "task", "'task'"),
    (one_layer_descent, (TASK, 1.0, 0.1, 2), {}, "initial", "()"),
    (one_layer_descent, (TASK, [[INF, 0], [0, 1]], 0.1, 2), {}, "initial", "inf"),
    (one_layer_descent, (TASK, EYE * 1e200, 0.1, 2), {}, "initial", "1.e+200"),
    (one_layer_descent, (TASK, EYE, 0, 2), {}, "learning_rate", "0.0"),
    (one_layer_descent, (TASK, EYE, -0.1, 2), {}, "learning_rate", "-0.1"),
    (one_layer_descent, (TASK, EYE, "0.1", 2), {}, "learning_rate", "'0.1'"),
    (one_layer_descent, (TASK, EYE, 1e3, 2000), {}, "learning_rate", "1000.0"),
    (one_layer_descent, (TASK, EYE, 0.1, -1), {}, "steps", "-1"),
    (one_layer_descent, (TASK, EYE, 0.1, 2.5), {}, "steps", "2.5"),
    (one_layer_descent, (TASK, EYE, 0.1, 10**7), {}, "steps", "10000000"),
    (one_layer_descent, (TASK, EYE, 0.1, 2), {"momentum": 1}, "momentum", "1.0"),
    (one_layer_descent, (TASK, EYE, 0.1, 2), {"momentum": -0.1}, "momentum", "-0.1"),
    (one_layer_flow, (None, EYE, [1.0]), {}, "task", "None"),
    (one_layer_flow, (TASK, [1.0, 1.0], [1.0]), {}, "initial", "(2,)"),
    (one_layer_flow, (TASK, EYE, 1.0), {}, "times", "()"),
    (one_layer_flow, (TASK, EYE, []), {}, "times", "(0,)"),
    (one_layer_flow, (TASK, EYE, [1.0, -0.5]), {}, "times", "-0.5"),
    (one_layer_flow, (TASK, EYE, [NAN]), {}, "times", "nan"),
    (largest_stable_step, ("task",), {}, "task", "'task'"),
    (largest_stable_step, (TASK,), {"momentum": 1.5}, "momentum", "1.5"),
    (largest_stable_step, (TASK,), {"momentum": NAN}, "momentum", "nan"),
    # The noise of gradients
    (gradient_noise, (5, EYE), {}, "task", "5"),
    (gradient_noise, (TASK, np.eye(3)), {}, "matrix", "(3, 3)"),
    (gradient_noise, (TASK, [["1", "0"], ["0", "1"]]), {}, "matrix", "'1'"),
    (gradient_noise, (TASK, EYE * 1e200), {}, "matrix", "1.e+200"),
    (gradient_noise_at_zero, (None, 1), {}, "task", "None"),
    (gradient_noise_at_zero, (TASK, 0), {}, "layers", "0"),
    (gradient_noise_at_zero, (TASK, 65), {}, "layers", "65"),
    (gradient_degree, (0,), {}, "layers", "0"),
    (gradient_degree, (1.5,), {}, "layers", "1.5"),
    (gradient_degree, (1,), {"at_zero": 1}, "at_zero", "1"),
    (gradient_degree, (1,), {"value": "fre"}, "value", "did you mean 'free'?"),
    (gradient_degree, (1,), {"value": None}, "value", "None"),
    (gradient_degree, (1,), {"covariate_law": "normal"}, "covariate_law", "'normal'"),
    (tail_exponent, (65,), {}, "layers", "65"),
    (tail_exponent, (1,), {"at_zero": None}, "at_zero", "None"),
    (tail_exponent, (1,), {"value": "zeros"}, "value", "did you mean 'zero'?"),
    (tail_exponent, (1,), {"covariate_law": "spheres"}, "covariate_law", "did you mean 'sphere'?"),
    # Curvature of several steps
    (multi_step_hessian, ("task", 2), {}, "task", "'task'"),
    (multi_step_hessian, (SPHERE, 2), {}, "task.covariate_law", "'sphere'"),
    (multi_step_hessian, (NOISY, 2), {}, "task.weight_covariance", "[1. 2.]"),
    (multi_step_hessian, (TASK, 0), {}, "layers", "0"),
    (multi_step_hessian, (TASK, 13), {}, "layers", "13"),
    (multi_step_hessian, (TASK, "2"), {}, "layers", "'2'"),
    (multi_step_hessian, (TASK, 2), {"step_sizes": [0.5]}, "step_sizes", "(1,)"),
    (multi_step_hessian, (TASK, 2), {"step_sizes": [0.5, NAN]}, "step_sizes", "nan"),
    (multi_step_hessian, (TASK, 2), {"step_sizes": [1e200, 1e200]}, "step_sizes", "1e+200"),
    (robust_condition_number, ([],), {}, "hessian_or_diagonal", "(0,)"),
    (robust_condition_number, (1.0,), {}, "hessian_or_diagonal", "()"),
    (robust_condition_number, (np.ones((2, 3)),), {}, "hessian_or_diagonal", "(2, 3)"),
    (robust_condition_number, (np.ones((1, 2, 2)),), {}, "hessian_or_diagonal", "(1, 2, 2)"),
    (robust_condition_number, ([1.0, NAN],), {}, "hessian_or_diagonal", "nan"),
    (robust_condition_number, ([[1.0], [1.0, 2.0]],), {}, "hessian_or_diagonal", "[[1.0], [1.0, 2.0]]"),
    (robust_condition_number, (np.zeros((2, 2)),), {}, "hessian_or_diagonal", "[0. 0.]"),
    (robust_condition_number, ("diagonal",), {}, "hessian_or_diagonal", "'diagonal'"),
    # Moments and quadrature
    (wishart_moment, (-1, 5, 20), {}, "powers", "-1"),
    (wishart_moment, ([1, -2], 5, 20), {}, "powers", "-2"),
    (wishart_moment, (1.5, 5, 20), {}, "powers", "1.5"),
    (wishart_moment, ("2", 5, 20), {}, "powers", "'2'"),
    (wishart_moment, (None, 5, 20), {}, "powers", "None"),
    (wishart_moment, (True, 5, 20), {}, "powers", "True"),
    (wishart_moment, (401, 5, 20), {}, "powers", "401"),
    (wishart_moment, ([16, 15], 5, 20), {}, "powers", "31"),
    (wishart_moment, (2, 0, 20), {}, "dim", "0"),
    (wishart_moment, (2, 5, 0), {}, "degrees", "0"),
    (spectral_moments, (5, 20, 0), {}, "count", "0"),
    (spectral_moments, (5, 20, 402), {}, "count", "402"),
    (spectral_moments, (0, 20, 3), {}, "dim", "0"),
    (spectral_moments, (5, 2.5, 3), {}, "context_length", "2.5"),
    (spectral_quadrature, (0, 5, 20), {}, "nodes", "0"),
    (spectral_quadrature, (49, 5, 20), {}, "nodes", "49"),
    (spectral_quadrature, (3, -5, 20), {}, "dim", "-5"),
    (spectral_quadrature, (3, 5, 0), {}, "context_length", "0"),
]  # fmt: skip


@battery(CASES)
def test_bad_input_is_refused(function, arguments, keywords, parameter, shown):
    """Each parameter of each function out of its range."""
    assert_refused(function, arguments, keywords, parameter, shown)


def test_the_battery_covers_every_parameter():
    """At least 100 bad calls, and every parameter of every public function but flags is among them."""
    assert len(CASES) >= 100
    named = {(case[0], case[3].split(".")[0]) for case in CASES}
    for name in package.__all__:
        member = getattr(package, name)
        if inspect.isfunction(member) or member is RegressionTask:
            parameters = set(inspect.signature(member).parameters) - {"whitened", "radau"}
            assert {parameter for function, parameter in named if function is member} >= parameters, name


def test_numbers_of_other_kinds_are_taken():
    """numpy integers, 0-d arrays, Fractions and lists are numbers too, and a task keeps plain ones."""
    task = RegressionTask(np.int64(2), np.array(5), covariance=[[1, 0], [0, 2]], noise_variance=np.float32(0.5))
    assert task == RegressionTask(2, 5, ((1.0, 0.0), (0.0, 2.0)), None, 0.5)
    assert type(task.dim) is type(task.context_length) is int
    assert type(task.noise_variance) is float
    assert hash(task) == hash(RegressionTask(2, 5, np.diag([1.0, 2.0]), noise_variance=0.5))
    assert multi_step_risk([Fraction(10, 13)], 5, 20) == multi_step_risk(np.array([10 / 13]), 5, 20)
    assert wishart_moment(np.array(2), 5, 20) == 2600
    assert RegressionTask(2, 5, noise_variance=Fraction(1, 2)).noise_variance == 0.5


def test_rounding_is_not_asymmetry():
    """A product such as U D Uᵀ is taken as symmetric, and is so afterwards; a difference of 1e-9 is not."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    matrix = basis @ np.diag([1.0, 2, 3, 4]) @ basis.T
    kept = RegressionTask(4, 5, matrix).covariance_matrix
    np.testing.assert_array_equal(kept, kept.T)
    np.testing.assert_allclose(kept, matrix, atol=1e-15)
    matrix[0, 1] += 1e-8
    with pytest.raises(ValueError, match=r"covariance must be symmetric, got a difference of 1e-08"):
        RegressionTask(4, 5, matrix)


def test_nearly_singular_covariances():
    """Eigenvalues down to the rounding of the largest are taken, below it refused."""
    assert RegressionTask(2, 5, np.diag([1.0, 1e-14])).signal == pytest.approx(1, rel=1e-12)
    with pytest.raises(ValueError, match="covariance must be positive definite, got the eigenvalue 1e-17"):
        RegressionTask(2, 5, np.diag([1.0, 1e-17]))


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ({"at_least": 1}, 0, "x must be at least 1, got 0"),
        ({"at_most": 1}, 2, "x must be at most 1, got 2"),
        ({"above": 0.0}, 0, "x must be greater than 0.0, got 0.0"),
    ],
)
def test_bounds_are_inclusive_or_not(bounds, value, message):
    """`at_least` and `at_most` take the bound itself, `above` does not."""
    with pytest.raises(ValueError, match=message):
        checks.real("x", value, **bounds)
    for check in (checks.integer, checks.real):
        if "above" not in bounds:
            assert check("x", 1, **bounds) == 1
            with pytest.raises(ValueError, match=message):
                check("x", value, **bounds)


def test_unknown_names():
    """The nearest match is shown where there is one, and all options always."""
    with pytest.raises(ValueError, match=r"name must be one of 'alpha', 'beta', got 'alpa'; did you mean 'alpha'\?$"):
        checks.one_of("name", "alpa", ["alpha", "beta"])
    with pytest.raises(ValueError, match=r"name must be one of 'alpha', 'beta', got 'zzz'$"):
        checks.one_of("name", "zzz", ["alpha", "beta"])
    assert checks.one_of("name", None, [None, "beta"]) is None
