"""Scoring: metrics, the evaluator that fills the results table, and trivial baselines of synthesis."""
