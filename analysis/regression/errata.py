"""Notes on the published figures and code of this family."""

from __future__ import annotations

from plumbline.analysis.regression import family

CODE = "code published with 2306.00297 and 2310.01082"

family.erratum(
    f"{CODE}: variable_L_exp, variable_N_exp",
    "Gradient descent, preconditioned descent and least squares see n − 1 of the n examples that the transformer "
    "sees (`X = Z[0:N-1]` with N the number of rows less one), with the best step of a coarse grid.",
    "With all examples and the best step the baselines are lower: three preconditioned steps at n = 20 have risk "
    "0.268342, not 0.323662; least squares at n = 2, 4 has 3, 1, not 4, 2.",
    "plumbline reproduce variable-depth variable-context",
)
family.erratum(
    f"{CODE}: variable_N_exp",
    "The training loop runs over n = 20 only; the evaluation reads trainings of n = 2, 4, …, 20.",
    "A training for each n.",
    "plumbline reproduce variable-context",
)
family.erratum(
    f"{CODE}: Transformer_F, generate_data, generate_data_inplace",
    "The argument `var` is used as a standard deviation. In the mode 'mlp' the generated data is discarded, and "
    "the redrawing of data ignores the mode: it is Gaussian.",
    "`init_scale` is a standard deviation; each task draws from its own law at every step.",
    "plumbline reproduce loss nonlinear",
)
family.erratum(
    f"{CODE}: simple demonstration, rotation demonstration-LBFGS",
    "Both print the same summary numbers for different experiments, from loop variables of an earlier cell.",
    "Each experiment has its own numbers.",
    "plumbline reproduce simple-demonstration rotation-lbfgs",
)
family.erratum(
    f"{CODE}: plot_condition_number",
    "The median of the Hessian's diagonal includes the value block of the last layer, which has no curvature; for "
    "one layer half of the diagonal is zero, and the ratio is infinite.",
    "The robust condition number of the parameters that have curvature; those without are named.",
    "plumbline reproduce condition-number",
)
family.erratum(
    f"{CODE}: plot_smoothness_vs_gradnorm",
    "Negative directional curvatures vanish in the logarithm.",
    "They are counted beside the plot.",
    "plumbline reproduce smoothness",
)
family.erratum(
    f"{CODE}: nonlinear_regression",
    "The stored history holds references to one state, the last; the directional smoothness is evaluated on "
    "another random network than was trained on; all prompts of a batch share one random network.",
    "States are copied, measured on the task they were trained on, and each prompt has its own weights.",
    "plumbline reproduce nonlinear",
)
