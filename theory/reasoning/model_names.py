"""The published models by name: what is trained, the attention, and what the feed-forward layer reads."""

from __future__ import annotations

from typing import Literal, get_args

ModelName = Literal[
    "Origin-Linear-F", "Origin-Linear-FA", "Origin-Relu-F", "Origin-Relu-FA", "Origin-Softmax-F", "Origin-Softmax-FA",
    "Reparam-Linear-F", "Reparam-Linear-FA", "Reparam-Relu-F", "Reparam-Relu-FA", "Reparam-Softmax-F",
    "Reparam-Softmax-FA", "Reparam-Linear-W-FA", "Reparam-Relu-W-FA",
]  # fmt: skip
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
"""The thirteen published models, and the last, which the published finite-sample experiments train besides."""
