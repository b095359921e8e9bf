"""Write docs/results/review-arithmetic.md; tests/benchmark/test_published.py checks that it is up to date."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymri.benchmark.published import write_review_arithmetic

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "review-arithmetic.md"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    write_review_arithmetic(parser.parse_args().page)
