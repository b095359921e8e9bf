"""Benchmark report: one self-contained HTML page of results tables."""

from anymri.benchmark.report.build import build_report
from anymri.benchmark.report.tables import read_results, table3
from anymri.benchmark.report.text_tables import to_markdown

__all__ = ["build_report", "read_results", "table3", "to_markdown"]
