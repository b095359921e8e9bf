"""Write docs/reference/datasets.md from the adapters themselves; tests/data/datasets checks that it is up to date."""

from __future__ import annotations

from pathlib import Path

from anymri.data.datasets import DATASETS, DatasetInfo
from anymri.data.published_splits import published_splits, read_published

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "datasets.md"

HEAD = """# Data sets

Written by `tools/write_dataset_reference.py` from the adapters in `src/anymri/data/datasets/`; their docstrings show
each layout on disk and name where it was looked up. `anymri datasets --json` gives the same.

    anymri index ROOT --dataset NAME -o subjects.csv

No image is opened while indexing; images that were found and are not used are counted, the first ones named with the
reason (all of them with `--json`). Labels below are the values after reading; where files hold others, they are
translated. Many subjects of the BraTS years and the Decathlon are the same people: do not train on one and test on
another.
"""

SPLITS = """
## Published splits

    anymri split subjects.csv --published NAME -o split.json

Lists of subject ids that papers used, with their source (`anymri datasets --splits --json`). A list in which a patient
is in two parts is refused; `--with-leaks` takes it all the same. `--partial` allows listed subjects to be missing.

| name | what | used by | note |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    names = ", ".join(f"[{name}](#{name})" for name in DATASETS)
    sections = "".join(_section(info) for info in DATASETS.values())
    rows = (read_published(name) for name in published_splits())
    splits = "".join(f"| `{row['name']}` | {row['title']} | {row['used_by']} | {row['note']} |\n" for row in rows)
    return f"{HEAD}\n{names}\n{sections}{SPLITS}{splits}"


def _section(info: DatasetInfo) -> str:
    labels = ", ".join(f"{value} `{name}`" for name, value in info.spec.labels.items()) or "none"
    regions = ", ".join(f"`{name}` = {' + '.join(parts)}" for name, parts in info.spec.regions.items()) or "none"
    lines = [
        f"\n## {info.name}\n",
        f"{info.title}.\n",
        "| | |\n|---|---|",
        f"| modalities | {', '.join(f'`{code}`' for code in info.spec.modalities)} |",
        f"| labels | {labels} |",
        f"| regions | {regions} |",
        f"| licence | {info.licence} |",
        f"| where | {info.where} |",
        *([f"| cite | {info.citation} |"] if info.citation else []),
        "",
        *[f"- {trap}" for trap in info.traps],
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
