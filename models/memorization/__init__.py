"""Transformers that memorise next-token laws, all their contexts at once, and the witness of their capacity."""

from plumbline.models.memorization.compressed import CompressedAttentionTransformer, MLPTransformer
from plumbline.models.memorization.next_token_model import NextTokenModel, joint_law
from plumbline.models.memorization.sequence_encoder import SequenceEncoder
from plumbline.models.memorization.sequences import sample_sequences
from plumbline.models.memorization.transformers import AttentionOnlyTransformer
from plumbline.models.memorization.witness import Memorized, memorizing_transformer

__all__ = [
    "AttentionOnlyTransformer",
    "CompressedAttentionTransformer",
    "MLPTransformer",
    "Memorized",
    "NextTokenModel",
    "SequenceEncoder",
    "joint_law",
    "memorizing_transformer",
    "sample_sequences",
]
