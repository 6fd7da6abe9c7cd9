"""Notes on the published figures and code of this family."""

from __future__ import annotations

from plumbline.analysis.reasoning import family

CODE = "code published with 2505.15009"

family.erratum(
    f"{CODE}: train.py",
    "In float32 the gradient is below the rounding of the probabilities from a scale of about 19 on: with η = 0.1 "
    "that is step 200 of 2,000, and what follows is rounding.",
    "Losses that keep their relative precision, in float64; the stall is predicted.",
    "plumbline check float32-stall",
)
family.erratum(
    f"{CODE}: generate_data",
    "The seed of the data is ignored: seeds 0 and 1 give the same sentences.",
    "A seed changes the data.",
    "plumbline reproduce losses-origin-linear",
)
family.erratum(
    f"{CODE}: models.py",
    "Without noise the models F and FA are one model: the feed-forward layer is no part of the logits.",
    "The figures without noise show one curve for both.",
    "plumbline reproduce comparison-of-models",
)
