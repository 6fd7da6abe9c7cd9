"""One-layer transformers of in-context reasoning, the sentences they read and what suffices of them."""

from plumbline.models.reasoning.losses import cross_entropy
from plumbline.models.reasoning.one_layer import Logits, OneLayerTransformer
from plumbline.models.reasoning.sentences import (
    Sentences,
    TokenCounts,
    WeightedSentences,
    enumerated_sentences,
    sample_label_counts,
    sample_sentences,
    sample_token_counts,
)
from plumbline.theory.reasoning.model_names import MODEL_NAMES

__all__ = [
    "MODEL_NAMES",
    "Logits",
    "OneLayerTransformer",
    "Sentences",
    "TokenCounts",
    "WeightedSentences",
    "cross_entropy",
    "enumerated_sentences",
    "sample_label_counts",
    "sample_sentences",
    "sample_token_counts",
]
