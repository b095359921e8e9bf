"""Train any method: one loop, exact resume, one folder per run."""

from anymri.training.loop import train

__all__ = ["train"]
