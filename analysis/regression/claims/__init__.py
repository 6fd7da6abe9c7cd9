"""The catalogue of the regression family; importing it registers every claim."""

from plumbline.analysis.regression.claims import (
    baselines,
    curvature,
    gd_plus_plus,
    identities,
    landscape,
    multi_step,
    one_step,
)

__all__ = ["baselines", "curvature", "gd_plus_plus", "identities", "landscape", "multi_step", "one_step"]
