"""Evaluation: metrics, the evaluator that fills the results table, and trivial baselines of synthesis."""

from anymri.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
