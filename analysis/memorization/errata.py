"""Notes on the published figures and code of this family."""

from __future__ import annotations

from plumbline.analysis.memorization import family

CODE = "code published with 2411.10115"

family.erratum(
    f"{CODE}: train.py",
    "The learning rates 0.1 and 0.005 are passed to a scheduler that multiplies by them: the rate falls from 0.01 "
    "to 0.00065, and 0.001 trains at 1e-6.",
    "Rates are what they are called.",
    "plumbline reproduce experiment-1",
)
family.erratum(
    f"{CODE}: utils.py",
    "The law called a power law is geometric. An ε inside the logarithms biases entropies, and the divergence of "
    "sparse laws is not a number.",
    "`geometric_law` and `zipf_law` are two laws; entropies and divergences are exact, with 0 log 0 = 0.",
    "plumbline bound conditional-entropy --help",
)
family.erratum(
    f"{CODE}: EXP_1_and_4",
    "The slope in the number of heads is fitted with the first saturated point, which bends it down by 5 to 15 % "
    "from d = 10 on: where experiment 4 tells quadratic from cubic.",
    "Below an accuracy of 0.95 the slopes are quadratic in d.",
    "plumbline reproduce experiment-4",
)
family.erratum(
    f"{CODE}: all experiments",
    "The previous bound is plotted with d in place of min(S, d_h), and bounds are not clipped at all contexts.",
    "Both forms of the previous bound are drawn; bounds are clipped.",
    "plumbline reproduce experiment-1 experiment-6",
)
family.erratum(
    f"{CODE}: EXP_5",
    "Parameters are counted with one position and without the bias of the MLP, which gets the count of attention.",
    "`compressed_attention_parameters` counts each architecture.",
    "plumbline reproduce experiment-5",
)
family.erratum(
    f"{CODE}: larger dimensions",
    "65,536 samples of 40,000 contexts leave 19.4 % of the contexts unseen; accuracy is measured on the samples.",
    "Every context counts at each step.",
    "plumbline reproduce larger-dimension",
)
family.erratum(
    f"{CODE}: depth",
    "Appendix B.2 has five layers, the data and titles three; parameters are counted for five.",
    "Three layers, and their parameters.",
    "plumbline reproduce depth",
)
