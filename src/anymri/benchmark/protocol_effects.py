"""Protocol effects: the same predictions of one model scored by the rules of every protocol.

`anymri protocols` is the command.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anymri.evaluation.protocols import PROTOCOLS
from anymri.evaluation.protocols.replay import Case, compare_protocols
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd

    from anymri.data.cache import Cache
    from anymri.methods import Method, PerSubsetModels

__all__ = ["effects_page", "predicted_cases", "protocol_effects", "write_effects"]


#: Below the table.
CLOSING = (
    "A protocol that changes nothing scores all of these tumours and gives empty regions the same value; what else",
    "sets it apart, intensities and windows, is not compared here. Where only the tumour core moves, it is the label",
    "map: it counts predicted enhancing tumour as core even where the network's own core leaves it out.",
)


def predicted_cases(
    method: Method | PerSubsetModels, cache: Cache, subjects: Sequence[str], subsets: Sequence[str] | None = None
) -> Iterator[Case]:
    """Predictions of a method, one case per subject and subset, ready for `compare_protocols`.

    Parameters
    ----------
    method : Method or PerSubsetModels
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
    from anymri.inference.labels import regions
    from anymri.inference.sliding_window import WindowSettings, iterate_subject

    spec = cache.spec
    windows = WindowSettings().trained_as(method.facts)
    served = [spec.subset_name(one) for one in spec.subsets()] if method.subsets == "any" else list(method.subsets)
    wanted = [spec.parse_subset(name) for name in (served if subsets is None else subsets)]
    for subject in subjects:
        study = cache.entry(subject)
        if study.label is None:
            continue
        present = [code for code, there in zip(spec.modalities, study.present, strict=True) if there]
        shown = [subset for subset in wanted if set(subset) <= set(present)]
        for study, members in cache.entries(subject, shown):
            brain = np.stack([study.brain([channel]) for channel in np.flatnonzero(study.present)])
            first, second, third = (float(value) for value in study.spacing_mm)
            for subset, found in iterate_subject(method, study, members, windows, outputs=("logits",)):
                assert method.head is not None
                masks = regions(found.probability, method.head, method.spec)
                label = np.asarray(study.label)
                yield Case(subject, spec.subset_name(subset), masks, label, (first, second, third), brain)


def protocol_effects(
    method: Method | PerSubsetModels, cache: Cache, subjects: Sequence[str], subsets: Sequence[str] | None = None
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


def write_effects(
    model: str,
    cache: Path | str,
    out: Path,
    *,
    split: Path | None = None,
    fold: int = 0,
    part: str = "test",
    subsets: Sequence[str] | None = None,
    subjects: int | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Score a model by every protocol and write the page.

    Parameters
    ----------
    model : str
        Run folder, weights file or name of a bundled model.
    cache : path-like
    out : Path
        The page, written whole or not at all.
    split : Path or None, default=None
        None = every subject of the cache.
    fold : int, default=0
    part : {"train", "validation", "test"}, default="test"
    subsets : sequence of str or None, default=None
        None = all that the model serves.
    subjects : int or None, default=None
        Only the first so many of the part.
    title : str, default=""
        What the page calls the data; default: the cache's folder.

    Returns
    -------
    DataFrame
        See `protocol_effects`.

    Raises
    ------
    UserError
        If model, cache, split, part or a subset is unknown, or nothing can be scored.
    """
    from anymri.data.cache import Cache
    from anymri.data.split import read_split
    from anymri.files import replace_file
    from anymri.zoo import open_model

    opened = Cache(cache)
    known = list(opened.subject_ids) if split is None else list(read_split(split).part(part, fold))
    unknown = [subject for subject in known if subject not in set(opened.subject_ids)]
    if unknown:
        raise UserError(f"{opened.folder}: subject {unknown[0]} is not in this cache; preprocess it first")
    method = open_model(model).eval()
    for name in subsets or ():
        try:
            method.spec.parse_subset(name)
        except ValueError as error:
            raise UserError(f"subset: {error}; write e.g. t1c+flair") from None
    table = protocol_effects(method, opened, known[:subjects], subsets)
    if table.empty:
        raise UserError(f"{opened.folder}: nothing to score; choose subjects with a label and a subset's sequences")
    named = "MODEL" if Path(model).exists() else model
    count = table["subjects"].max()
    facts = {
        "Model": method.name if Path(model).exists() else f"{model} ({method.name})",
        "Data": f"{title or opened.folder.name}, {' x '.join(f'{value:g}' for value in opened.spacing_mm)} mm",
        "Subjects": count if split is None else f"{count}, part {part}",
        "Subsets": ", ".join(subsets) if subsets else "all that the model serves",
        "Made by": f"`{_command(named, split is not None, fold, part, subsets or (), subjects, title)}`",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(out) as file:
        file.write(effects_page(table, facts).encode())
    return table


def _command(
    model: str, split: bool, fold: int, part: str, subsets: Sequence[str], subjects: int | None, title: str
) -> str:
    """The call that makes the page again, without paths of one machine."""
    words = ["anymri", "protocols", model, "--data", "CACHE"]
    words += ["--split", "SPLIT", "--part", part, *(["--fold", str(fold)] if fold else [])] if split else []
    words += [word for name in subsets for word in ("--subset", name)]
    words += ["--subjects", str(subjects)] if subjects else []
    words += ["--title", title] if title else []
    return shlex.join([*words, "-o", "PAGE"])
