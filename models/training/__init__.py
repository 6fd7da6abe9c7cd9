"""Training an ensemble: the settings, the trainer, and what became of each run.

What describes a training is here, free of torch; the trainer itself is `plumbline.models.training.trainer.train`.
"""

from plumbline.models.training.settings import Training
from plumbline.models.training.trained import Curve, Ending, Trained

__all__ = ["Curve", "Ending", "Trained", "Training"]
