"""Transformers that memorise next-token laws, all their contexts at once, and the witness of their capacity."""

from models.memorization.compressed import CompressedAttentionTransformer, MLPTransformer
from models.memorization.next_token_model import NextTokenModel, joint_law
from models.memorization.sequence_encoder import SequenceEncoder
from models.memorization.sequences import sample_sequences
from models.memorization.transformers import AttentionOnlyTransformer
from models.memorization.witness import Memorized, memorizing_transformer

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
