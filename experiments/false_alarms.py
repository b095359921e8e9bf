"""Count the warnings of unaltered studies: real cases of every subset, raw studies, and clean phantoms.

    python experiments/false_alarms.py docs/results/false-alarms.md --shared ../shared/data --work work/false_alarms

A warning on an unaltered study is a false alarm, unless it states a measured weakness of the subset (the sentences that
start with "From ..." or name an unknown region) or a true property of the scan (thick slices).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

import anymri
from anymri.data.index import find_study
from anymri.data.raw.source import find_raw
from anymri.data.raw.study import RawOptions
from anymri.inference.predict import Model
from anymri.phantom import PhantomSettings, generate
from anymri.types import GLIOMA

#: Clean phantoms: seed and settings of each half.
PHANTOMS = {
    "plain": (4101, PhantomSettings(spacing_mm=3.0)),
    "varied anatomy and scanner": (4102, PhantomSettings(spacing_mm=3.0, anatomy="varied", scanner="varied")),
}


#: How the page is made.
COMMAND = (
    "python experiments/false_alarms.py docs/results/false-alarms.md --shared ../shared/data --work work/false_alarms"
)


def phantom_warnings(model: Model, work: Path, count: int) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, name and warnings of each phantom, all four sequences."""
    for kind, (seed, settings) in PHANTOMS.items():
        folder = work / kind.replace(" ", "_")
        if not folder.exists():
            generate(folder, count, seed, settings, layout="folder")
        for study in sorted(folder.glob("phantom-*")):
            yield kind, study.name, list(model.predict(find_study(study).images).warnings)


def real_warnings(model: Model, root: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Subset, name and warnings of each real case, all fifteen subsets."""
    for study in sorted(root.iterdir()):
        images = find_study(study).images
        for subset in GLIOMA.subsets():
            result = model.predict({code: images[code] for code in subset})
            yield GLIOMA.subset_name(subset), study.name, list(result.warnings)


def raw_warnings(model: Model, root: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Sequences, name and warnings of each raw study."""
    for study in sorted(root.iterdir()):
        found = find_raw(study, {}, GLIOMA.modalities)
        result = model.predict(found.images, raw=RawOptions(), notes=found.notes)
        yield GLIOMA.subset_name(tuple(found.images)), study.name, list(result.warnings)


def table(rows: list[tuple[str, str, list[str]]]) -> str:
    """Markdown: studies, how many of them have a warning, and each sentence with its count."""
    lines = ["| studies | n | with a warning | sentences |", "|---|---|---|---|"]
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        own = [(name, warnings) for key, name, warnings in rows if key == kind]
        counts = Counter(line for _, warnings in own for line in warnings)
        said = "<br>".join(f"{count} x {line}" for line, count in counts.most_common())
        lines.append(f"| {kind} | {len(own)} | {sum(bool(warnings) for _, warnings in own)} | {said} |")
    return "\n".join(lines)


def main() -> None:
    """Run the chosen parts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="page to write")
    parser.add_argument("--shared", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--work", type=Path, required=True, help="folder for the phantoms")
    parser.add_argument("--phantoms", type=int, default=50, help="of each kind")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = anymri.load("default", device="cpu")
    parts = {
        "Clean phantoms, all four sequences": phantom_warnings(model, arguments.work, arguments.phantoms),
        "Gliomas (BraTS 2021), unaltered, every subset": real_warnings(model, arguments.shared / "brats2021"),
        "Multiple sclerosis, stripped, every subset": real_warnings(model, arguments.shared / "openms"),
        "Raw studies (`--raw`), right labels": raw_warnings(model, arguments.shared / "openms_raw"),
    }
    text = [
        "# Warnings of unaltered studies",
        "",
        f"Model `{model.name}`, one thread; phantoms of seeds 4101 and 4102 at 3 mm. Made by",
        f"`{COMMAND}`.",
    ]
    for title, rows in parts.items():
        text += ["", f"## {title}", "", table(list(rows))]
        print(text[-1], flush=True)
    arguments.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
