"""What every protocol's rules do to the same predictions: one model, one data set, all protocols.

``python -m anymri.benchmark.protocol_effects MODEL CACHE --split SPLIT -o docs/results/protocol-effects.md``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anymri.evaluation.protocols import PROTOCOLS
from anymri.evaluation.replay import Case, compare_protocols

if TYPE_CHECKING:
    import pandas as pd

    from anymri.data.cache import Cache
    from anymri.methods import Family, Method

__all__ = ["effects_page", "predicted_cases", "protocol_effects"]


#: Below the table.
CLOSING = (
    "A protocol that changes nothing scores all of these tumours and gives empty regions the same value; what else",
    "sets it apart, intensities and windows, is not compared here. Where only the tumour core moves, it is the label",
    "map: it counts predicted enhancing tumour as core even where the network's own core leaves it out.",
)


def predicted_cases(
    method: Method | Family, cache: Cache, subjects: Sequence[str], subsets: Sequence[str] | None = None
) -> Iterator[Case]:
    """Predictions of a method, one case per subject and subset, ready for `compare_protocols`.

    Parameters
    ----------
    method : Method or Family
        Opened with `anymri.zoo.open_model`, in evaluation mode.
    cache : Cache
    subjects : sequence of str
        Those without a label, or without a subset's sequences, are left out.
    subsets : sequence of str or None, default=None
        None = all that the method serves.

    Yields
    ------
    Case
        With the brain of every sequence that exists: the leaky protocols want it.
    """
    import torch

    from anymri.inference.labels import regions
    from anymri.inference.sliding_window import WindowSettings, iterate_subject

    spec = cache.spec
    size = (getattr(method, "extra", None) or {}).get("window")
    window = WindowSettings(window=tuple(size) if size else None)
    served = [spec.subset_name(one) for one in spec.subsets()] if method.subsets == "any" else list(method.subsets)
    wanted = [spec.parse_subset(name) for name in (served if subsets is None else subsets)]
    for subject in subjects:
        entry = cache.entry(subject)
        if entry.label is None:
            continue
        image = np.asarray(entry.image, np.float32)
        present = [code for code, there in zip(spec.modalities, entry.present, strict=True) if there]
        tensors = (torch.from_numpy(image), torch.from_numpy(entry.statistics), torch.from_numpy(entry.boxes))
        shown = [subset for subset in wanted if set(subset) <= set(present)]
        brain = image[np.asarray(entry.present)] != 0
        first, second, third = (float(value) for value in entry.spacing_mm)
        for subset, found in iterate_subject(
            method, tensors, shown, window, outputs=("logits",), subject_id=entry.subject_id
        ):
            assert method.head is not None
            masks = regions(found.probability, method.head, method.spec)
            label = np.asarray(entry.label)
            yield Case(subject, spec.subset_name(subset), masks, label, (first, second, third), brain)


def protocol_effects(
    method: Method | Family, cache: Cache, subjects: Sequence[str], subsets: Sequence[str] | None = None
) -> pd.DataFrame:
    """Mean Dice under every protocol; see `predicted_cases` and `compare_protocols`."""
    return compare_protocols(predicted_cases(method, cache, subjects, subsets), spec=cache.spec)


def effects_page(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    """The results as a Markdown page.

    Parameters
    ----------
    table : DataFrame
        From `protocol_effects`.
    facts : dict
        What stands above the table: model, data, subjects, subsets, command.
    """
    targets = list(dict.fromkeys(table["target"]))
    lines = [
        "# What the protocol does to the number",
        "",
        "The same predictions of one model, scored under every [protocol](../explanation/protocols.md). Only scoring",
        "differs; intensities, windows and weights are the same. Mean Dice in per cent, and in brackets the difference",
        "to the protocol `anymri` in points.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"| Protocol | clean-up | {' | '.join(targets)} |",
        "|---|---|" + "---:|" * len(targets),
    ]
    for protocol in dict.fromkeys(table["protocol"]):
        for metric in ("dice", "dice_cleaned"):
            rows = table[(table["protocol"] == protocol) & (table["metric"] == metric)].set_index("target")
            if rows.empty:
                continue
            cells = [f"{100 * rows.at[t, 'value']:.2f} ({100 * rows.at[t, 'difference']:+.2f})" for t in targets]
            cleaned = ", ".join(PROTOCOLS[protocol].cleaning) if metric == "dice_cleaned" else "none"
            lines.append(f"| `{protocol}` | {cleaned} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *CLOSING]) + "\n"


def _command(options: Any) -> str:
    """The call that makes the page again, without paths of one machine."""
    model = "MODEL" if Path(options.model).exists() else options.model
    parts = [f"python -m anymri.benchmark.protocol_effects {model} CACHE"]
    parts += [f"--split SPLIT --part {options.part}"] if options.split else []
    parts += [f"--subjects {options.subjects}"] if options.subjects else []
    parts += [f"--subsets {' '.join(options.subsets)}"] if options.subsets else []
    return " ".join([*parts, "-o PAGE"])


def _main() -> None:
    import argparse

    from anymri.data.cache import Cache
    from anymri.data.split import read_split
    from anymri.zoo import open_model

    parser = argparse.ArgumentParser(description="Score one model under every protocol.")
    parser.add_argument("model")
    parser.add_argument("cache", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--part", default="test")
    parser.add_argument("--subsets", nargs="*")
    parser.add_argument("--subjects", type=int, help="the first so many of the part")
    parser.add_argument("--data", default="", help="what the page calls the data")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    cache = Cache(options.cache)
    known = list(read_split(options.split).part(options.part, 0)) if options.split else list(cache.subject_ids)
    chosen = known[: options.subjects]
    method = open_model(options.model).eval()
    table = protocol_effects(method, cache, chosen, options.subsets or None)
    facts = {
        "Model": method.name if Path(options.model).exists() else f"{options.model} ({method.name})",
        "Data": f"{options.data or options.cache.name}, {' x '.join(f'{value:g}' for value in cache.spacing_mm)} mm",
        "Subjects": f"{table['subjects'].max()}, part {options.part}" if options.split else table["subjects"].max(),
        "Subsets": ", ".join(options.subsets) if options.subsets else "all that the model serves",
        "Made by": f"`{_command(options)}`",
    }
    temporary = options.out.with_name(options.out.name + ".tmp")
    temporary.write_text(effects_page(table, facts), encoding="utf-8")
    temporary.replace(options.out)


if __name__ == "__main__":
    _main()
