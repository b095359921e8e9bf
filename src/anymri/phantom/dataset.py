"""Phantom data sets on disk, in the layouts of real data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from anymri.errors import UserError
from anymri.files import RefusedWrite, replace_text, write_reason, write_remedy
from anymri.locks import one_writer
from anymri.phantom.artifacts import check_strengths
from anymri.phantom.layouts import LAYOUTS, Layout, find_layout
from anymri.phantom.pathology import PATHOLOGY_TABLE
from anymri.phantom.settings import PhantomSettings
from anymri.phantom.subject import PhantomSubject, make_subject, subject_id, whole_number
from anymri.phantom.unaligned import Placement, draw_placement, write_unaligned
from anymri.progress import progress_bar
from anymri.stopping import worker_pool

__all__ = ["LAYOUTS", "generate", "refuse_others", "run_all", "write_subjects"]


def _check_missing(missing: Mapping[str, float] | None, sequences: tuple[str, ...]) -> dict[str, float]:
    missing = dict(missing or {})
    for code, rate in missing.items():
        if code not in sequences:
            raise UserError(f"phantom: missing names {code!r}; sequences of this study: {', '.join(sequences)}")
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise UserError(f"phantom: the missing rate of {code} is {rate}; choose 0 to 1")
    if len(missing) == len(sequences) and min(missing.values()) >= 1:
        raise UserError("phantom: every sequence would always be missing; lower one rate below 1")
    return missing


def _check_sequences(layout: Layout, sequences: tuple[str, ...], missing: Mapping[str, float]) -> None:
    """Refuse sequences that a layout has no name for, or cannot be written without."""
    from anymri.data.datasets import bids, get_dataset

    known = get_dataset(layout.dataset).spec.modalities
    if layout.described:
        known = tuple(bids.NAMES) if layout.dataset == "bids" else sequences
    unknown = [code for code in sequences if code not in known]
    if unknown:
        raise UserError(
            f"phantom: the layout {layout.dataset} has no place for {unknown[0]}; choose from {', '.join(known)}"
        )
    lacking = [code for code in known if code not in sequences or missing.get(code)]
    if layout.complete and lacking:
        raise UserError(f"phantom: the layout {layout.dataset} cannot be written without {lacking[0]}; choose another")


def _describe(out: Path, pathology: str, sequences: tuple[str, ...]) -> None:
    """Write the ``dataset.yaml`` that says what the labels of a folder mean."""
    import yaml

    from anymri.files import replace_file

    row = PATHOLOGY_TABLE[pathology]
    content = {
        "title": f"Phantoms: {pathology.replace('_', ' ')}",
        "modalities": list(sequences),
        "labels": dict(row.labels),
        "regions": {name: list(labels) for name, labels in row.regions.items()},
    }
    with replace_file(out / "dataset.yaml") as handle:
        handle.write(yaml.safe_dump(content, sort_keys=False, default_flow_style=None).encode())


def _drop(seed: int, index: int, sequences: Collection[str], missing: Mapping[str, float]) -> list[str]:
    """Sequences that a subject lacks; its own draw, and never all of them."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 1])))
    while True:
        draws = generator.uniform(size=len(sequences))
        dropped = [code for code, draw in zip(sequences, draws, strict=True) if draw < missing.get(code, 0)]
        if len(dropped) < len(sequences):
            return dropped


def _placements(subject: PhantomSubject, codes: Iterable[str]) -> dict[str, Placement]:
    """How each sequence of an unaligned study was measured; the head moves after the first."""
    seed, index, acquired = (subject.parameters[name] for name in ("seed", "index", "artifacts"))
    return {
        code: draw_placement(seed, index, code, acquired[code]["slice_axis"], subject.spacing_mm, first=number == 0)
        for number, code in enumerate(codes)
    }


def _write_subject(
    index: int, out: Path, seed: int, settings: PhantomSettings, layout: Layout, missing: Mapping[str, float]
) -> tuple[int, str]:
    """Make and write one subject; returns its index and checksum."""
    from anymri.data.datasets import get_dataset
    from anymri.phantom.subject import checksum

    subject = make_subject(seed, index, settings)
    digest = checksum(subject)
    name = layout.subject_name(index)
    dropped = _drop(seed, index, subject.images, missing)
    images = {code: image for code, image in subject.images.items() if code not in dropped}
    record = out / "provenance" / f"{name}.json"
    try:
        label = layout.label(subject.label, settings.pathology)
        content = {**subject.parameters, "missing": dropped, "sha256": digest}
        if settings.unaligned:
            placements = _placements(subject, images)
            write_unaligned(out, name, images, subject.label, settings.spacing_mm, placements)
            content["placements"] = {
                code: {
                    **asdict(each),
                    "anatomy_to_sequence": each.matrix(subject.label.shape, settings.spacing_mm).tolist(),
                }
                for code, each in placements.items()
            }
        else:
            get_dataset(layout.dataset).write(out, name, images, label, (settings.spacing_mm,) * 3)
        replace_text(record, json.dumps(content, indent=1, sort_keys=True) + "\n")
    except (OSError, RefusedWrite) as error:
        raise UserError(f"{out}: cannot write {name} ({write_reason(error)}); {write_remedy(error)}") from None
    return index, digest


def write_subjects(
    out: Path,
    indices: Iterable[int],
    seed: int,
    settings: PhantomSettings,
    *,
    layout: str = "brats2023",
    missing: Mapping[str, float] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> dict[int, str]:
    """Make subjects and write them to a folder.

    Parameters
    ----------
    out : Path
        Folder of the data set; created. Holds a folder per subject and ``provenance/<subject>.json``.
    indices : iterable of int
    seed : int
    settings : PhantomSettings
    layout : str
        A key of `LAYOUTS`, or ``isles2015`` for the part of it that fits the pathology.
    missing : dict of str to float, optional
        Share of subjects that lack a sequence, by modality code.
    workers : int, default=1
        Processes. The files do not depend on it.
    progress : bool, default=True
        Show a progress bar.

    Returns
    -------
    dict of int to str
        Checksum of each subject by its index, see `anymri.phantom.recipe.checksum`.

    Raises
    ------
    UserError
        If an argument is out of range or the folder cannot be written.
    """
    from anymri.files import make_folder

    chosen = find_layout(layout, settings.pathology)
    if settings.modalities is None:
        settings = replace(settings, modalities=chosen.modalities)
    if settings.unaligned and chosen.dataset != "folder":
        raise UserError(f"phantom: the layout {layout} has one grid per study; write unaligned studies as a folder")
    check_strengths(settings.artifacts, settings.sequences)
    missing = _check_missing(missing, settings.sequences)
    _check_sequences(chosen, settings.sequences, missing)
    workers = whole_number("workers", workers, 1)
    indices = list(indices)
    with one_writer(out):
        refuse_others(out, partial(_is_of, seed=seed, settings=settings, layout=chosen, missing=missing))
        make_folder(make_folder(out) / "provenance")
        if chosen.described:
            _describe(Path(out), settings.pathology, settings.sequences)
        make = partial(_write_subject, out=Path(out), seed=seed, settings=settings, layout=chosen, missing=missing)
        return run_all(make, indices, min(workers, len(indices)), progress)


def refuse_others(out: Path, is_ours: Callable[[str, dict[str, Any]], bool]) -> None:
    """Refuse a folder that holds phantoms of other settings, by their records; the two would be one data set.

    Parameters
    ----------
    out : Path
    is_ours : callable
        Says so of the name and the content of a record.

    Raises
    ------
    UserError
    """
    for path in sorted(Path(out, "provenance").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            ours, seed = is_ours(path.stem, record), record["seed"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: is not the record of a phantom; choose a new folder") from None
        if not ours:
            raise UserError(
                f"{out}: holds phantoms of other settings ({path.stem}, seed {seed}), and the two would mix; "
                "choose a new folder, or remove this one"
            )


def _is_of(
    name: str,
    record: dict[str, Any],
    seed: int,
    settings: PhantomSettings,
    layout: Layout,
    missing: Mapping[str, float],
) -> bool:
    """Whether a record is that of a subject that these settings make."""
    if (record["seed"], record["settings"]) != (seed, json.loads(json.dumps(asdict(settings)))):
        return False
    return name == layout.subject_name(record["index"]) and record["missing"] == _drop(
        seed, record["index"], settings.sequences, missing
    )


def run_all(make: partial, indices: list[int], workers: int, progress: bool) -> dict[int, str]:
    """Call ``make(index) -> (index, checksum)`` for every index, in this process or several, with a progress bar."""
    digests: dict[int, str] = {}
    with progress_bar("phantoms", len(indices), progress) as bar:
        if workers == 1:
            for index in indices:
                digests.update([make(index)])
                bar.advance()
            return digests
        context = get_context("forkserver")  # torch is imported once for all workers
        context.set_forkserver_preload([__name__])
        with worker_pool(workers, context) as pool:
            for result in pool.map(make, indices):
                digests.update([result])
                bar.advance()
    return digests


def generate(
    out: Path | str,
    subjects: int,
    seed: int,
    settings: PhantomSettings | None = None,
    *,
    layout: str = "brats2023",
    missing: Mapping[str, float] | None = None,
    start: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Write a phantom data set in the layout of a real one.

    Parameters
    ----------
    out : path-like
        Folder of the data set.
    subjects : int
        How many.
    seed : int
        The same seed gives the same bytes, whatever the number of workers.
    settings : PhantomSettings, optional
        What the subjects are: size of voxels, pathology, sequences, contrast, artifacts.
    layout : str
        A key of `LAYOUTS` with labels for the pathology.
    missing : dict of str to float, optional
        Share of subjects that lack a sequence, by modality code; no subject lacks all.
    start : int, default=0
        Index of the first subject.
    workers : int, default=1
        Processes.
    progress : bool, default=True
        Show a progress bar.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If an argument is out of range, nilearn is missing, or the folder cannot be written.
    """
    subjects, seed = whole_number("subjects", subjects, 1), whole_number("seed", seed, 0)
    start = whole_number("start", start, 0)
    if start + subjects > 100_000:
        raise UserError(f"phantom: subject {subject_id(start + subjects - 1)} is beyond 99999; make fewer subjects")
    indices = range(start, start + subjects)
    settings = settings or PhantomSettings()
    write_subjects(
        Path(out), indices, seed, settings, layout=layout, missing=missing, workers=workers, progress=progress
    )
    return Path(out)
