"""What was published and does not hold as it stands: the corrected claims, and notes on published figures and code."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.analysis.catalogue import catalogue, family_place

REGRESSION = "code published with 2306.00297 and 2310.01082"
MEMORIZATION = "code published with 2411.10115"
REASONING = "code published with 2505.15009"


@dataclass(frozen=True)
class Erratum:
    """One entry of the ledger.

    Attributes:
        family: Whose.
        source: Paper and theorem, or file of the published code.
        published: What stands there.
        holds: What holds.
        command: What replays it.
    """

    family: str
    source: str
    published: str
    holds: str
    command: str


NOTES = (
    Erratum(
        "regression",
        f"{REGRESSION}: variable_L_exp, variable_N_exp",
        "Gradient descent, preconditioned descent and least squares see n − 1 of the n examples that the transformer "
        "sees (`X = Z[0:N-1]` with N the number of rows less one), with the best step of a coarse grid.",
        "With all examples and the best step the baselines are lower: three preconditioned steps at n = 20 have risk "
        "0.268342, not 0.323662; least squares at n = 2, 4 has 3, 1, not 4, 2.",
        "plumbline reproduce variable-depth variable-context",
    ),
    Erratum(
        "regression",
        f"{REGRESSION}: variable_N_exp",
        "The training loop runs over n = 20 only; the evaluation reads trainings of n = 2, 4, …, 20.",
        "A training for each n.",
        "plumbline reproduce variable-context",
    ),
    Erratum(
        "regression",
        f"{REGRESSION}: Transformer_F, generate_data, generate_data_inplace",
        "The argument `var` is used as a standard deviation. In the mode 'mlp' the generated data is discarded, and "
        "the redrawing of data ignores the mode: it is Gaussian.",
        "`init_scale` is a standard deviation; each task draws from its own law at every step.",
        "plumbline reproduce loss nonlinear",
    ),
    Erratum(
        "regression",
        f"{REGRESSION}: simple demonstration, rotation demonstration-LBFGS",
        "Both print the same summary numbers for different experiments, from loop variables of an earlier cell.",
        "Each experiment has its own numbers.",
        "plumbline reproduce simple-demonstration rotation-lbfgs",
    ),
    Erratum(
        "regression",
        f"{REGRESSION}: plot_condition_number",
        "The median of the Hessian's diagonal includes the value block of the last layer, which has no curvature; for "
        "one layer half of the diagonal is zero, and the ratio is infinite.",
        "The robust condition number of the parameters that have curvature; those without are named.",
        "plumbline reproduce condition-number",
    ),
    Erratum(
        "regression",
        f"{REGRESSION}: plot_smoothness_vs_gradnorm",
        "Negative directional curvatures vanish in the logarithm.",
        "They are counted beside the plot.",
        "plumbline reproduce smoothness",
    ),
    Erratum(
        "regression",
        f"{REGRESSION}: nonlinear_regression",
        "The stored history holds references to one state, the last; the directional smoothness is evaluated on "
        "another random network than was trained on; all prompts of a batch share one random network.",
        "States are copied, measured on the task they were trained on, and each prompt has its own weights.",
        "plumbline reproduce nonlinear",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: train.py",
        "The learning rates 0.1 and 0.005 are passed to a scheduler that multiplies by them: the rate falls from 0.01 "
        "to 0.00065, and 0.001 trains at 1e-6.",
        "Rates are what they are called.",
        "plumbline reproduce experiment-1",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: utils.py",
        "The law called a power law is geometric. An ε inside the logarithms biases entropies, and the divergence of "
        "sparse laws is not a number.",
        "`geometric_law` and `zipf_law` are two laws; entropies and divergences are exact, with 0 log 0 = 0.",
        "plumbline bound conditional-entropy --help",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: EXP_1_and_4",
        "The slope in the number of heads is fitted with the first saturated point, which bends it down by 5 to 15 % "
        "from d = 10 on: where experiment 4 tells quadratic from cubic.",
        "Below an accuracy of 0.95 the slopes are quadratic in d.",
        "plumbline reproduce experiment-4",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: all experiments",
        "The previous bound is plotted with d in place of min(S, d_h), and bounds are not clipped at all contexts.",
        "Both forms of the previous bound are drawn; bounds are clipped.",
        "plumbline reproduce experiment-1 experiment-6",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: EXP_5",
        "Parameters are counted with one position and without the bias of the MLP, which gets the count of attention.",
        "`compressed_attention_parameters` counts each architecture.",
        "plumbline reproduce experiment-5",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: larger dimensions",
        "65,536 samples of 40,000 contexts leave 19.4 % of the contexts unseen; accuracy is measured on the samples.",
        "Every context counts at each step.",
        "plumbline reproduce larger-dimension",
    ),
    Erratum(
        "memorization",
        f"{MEMORIZATION}: depth",
        "Appendix B.2 has five layers, the data and titles three; parameters are counted for five.",
        "Three layers, and their parameters.",
        "plumbline reproduce depth",
    ),
    Erratum(
        "reasoning",
        f"{REASONING}: train.py",
        "In float32 the gradient is below the rounding of the probabilities from a scale of about 19 on: with η = 0.1 "
        "that is step 200 of 2,000, and what follows is rounding.",
        "Losses that keep their relative precision, in float64; the stall is predicted.",
        "plumbline check float32-stall",
    ),
    Erratum(
        "reasoning",
        f"{REASONING}: generate_data",
        "The seed of the data is ignored: seeds 0 and 1 give the same sentences.",
        "A seed changes the data.",
        "plumbline reproduce losses-origin-linear",
    ),
    Erratum(
        "reasoning",
        f"{REASONING}: models.py",
        "Without noise the models F and FA are one model: the feed-forward layer is no part of the logits.",
        "The figures without noise show one curve for both.",
        "plumbline reproduce comparison-of-models",
    ),
)


def errata() -> list[Erratum]:
    """The corrected claims and the notes, family by family.

    Raises:
        MissingExtra: if torch is not installed.
    """
    claims = [
        Erratum(claim.family, claim.source, claim.published, claim.statement, f"plumbline check {claim.name}")
        for claim in catalogue().values()
        if claim.published
    ]
    entries = [*claims, *NOTES]
    return sorted(entries, key=lambda entry: family_place(entry.family))


def errata_markdown() -> str:
    """The ledger as a page: docs/errata.md is this text, and a test keeps it so."""
    lines = [
        "# Errata",
        "",
        "What was published, what holds, and the command that replays it. Generated by",
        "`plumbline errata --markdown > docs/errata.md` from the status of the claims, and from notes on published",
        "figures and code. Corrections of these corrections are welcome.",
        "",
    ]
    family = ""
    for entry in errata():
        if entry.family != family:
            family = entry.family
            lines += [f"## {family}", ""]
        lines += [
            f"### {entry.source}", "", f"- published: {entry.published}", f"- holds: {entry.holds}",
            f"- replay: `{entry.command}`", "",
        ]  # fmt: skip
    return "\n".join(lines)
