"""Benchmark: plan, run, statistics and report of many methods on the same data; and the demonstration."""
