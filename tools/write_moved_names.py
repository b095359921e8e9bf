"""Write docs/reference/moved.md from the tables of `anymri.moved`; tests/test_moved.py checks it."""

from __future__ import annotations

from pathlib import Path

from anymri.moved import ATTRIBUTES, MODULES, NAMES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "moved.md"

HEAD = """# Moved names

Written by `tools/write_moved_names.py` from the tables in `anymri.moved`. An old path still works, with a
`DeprecationWarning` that says where the name is now; it ends with version 0.3. To see every old path in a script of
yours, run it by `python -W default::DeprecationWarning`.

| old | new |
|---|---|
"""

TAIL = """
A setting of a method is read by its old name too: `judge_widths` of `mm_gan` and `smu_net` is `discriminator_widths`.

## Not kept

| old | now |
|---|---|
"""

#: What an old path or name no longer gives, and what to write instead.
NOT_KEPT = {
    "anymri.benchmark.published": "the script `tools/review_arithmetic.py`, which is not installed",
    "anymri.methods._released": "`anymri.methods.authors`; so are the other private modules `_..._released`",
    "anymri.cli.train": "`anymri.training.train`; functions of commands are no Python interface",
    "Method.decode(features, available, outputs, generators)": "`decode(features, available, request)`, "
    "a `Request` of `anymri.protocol.request`",
    "PerSubset.answer": "`predict_subset`",
    "PerSubset.own": "`subset_modalities`",
    "Method.extra": "`facts`, a `TrainingFacts` of `anymri.protocol.facts`",
    "predict_subject(method, image, statistics, boxes, subsets, window=...)": "`predict_subject(method, study, "
    "subsets, WindowSettings(window=...))`",
    "Asked(window=...)": "`EvaluationSettings(windows=WindowSettings(window=...))`",
}


def page() -> str:
    """Modules first, then names that left or changed in a module which is still there."""
    modules = [f"| `{old}` | {', '.join(f'`{new}`' for new in homes)} |" for old, homes in MODULES.items()]
    names = [f"| `{old}` in any of these modules | `{new}` |" for old, new in NAMES.items()]
    attributes = [f"| `{old}` | `{new}` |" for old, new in ATTRIBUTES.items()]
    gone = [f"| `{old}` | {new} |" for old, new in NOT_KEPT.items()]
    return HEAD + "\n".join([*modules, *names, *attributes]) + "\n" + TAIL + "\n".join(gone) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
