"""Preprocessing of skull-stripped volumes to the cache: each modality by its own brain, none by another.

The own brain of a modality are its voxels that are finite and not 0. Box, statistics and z-scores come from these
voxels of this modality alone; the voxels of another spacing are placed by the brains of the sequences that are given
(`anymri.data.lattice`). So a study with a sequence deleted gives bitwise the same other channels, unless that sequence
had its brain elsewhere: then the cache holds the study once more for the subsets without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.bounds import COARSEST_MM, FINEST_MM
from anymri.data.cache import SUBJECT_FACTS, Cache, check_cache_name
from anymri.data.geometry import Geometry
from anymri.data.lattice import NATIVE, Lattice, brain_box, brain_middle, choose_anchor
from anymri.data.nifti import MAX_VOXELS, Volume, check_study, read_image
from anymri.data.raw.stripped import refuse_head
from anymri.data.resample import resample_image, resample_label
from anymri.data.selectors import source_files
from anymri.data.study import Study, label_dtype
from anymri.data.upright import settle_axes, turn_volume
from anymri.files import RefusedWrite, remove_leftovers
from anymri.locks import one_writer
from anymri.progress import progress_bar
from anymri.stopping import worker_pool
from anymri.types import GLIOMA, STATISTICS, DataSpec, Subject, UserError

__all__ = ["PreprocessReport", "other_anchors", "preprocess", "preprocess_study"]

#: Largest absolute z-score; far beyond any tissue, far below float16's limits.
MAX_ZSCORE = 20.0
#: What a brain voxel becomes whose z-score would be exactly 0, the value of background.
TINY_ZSCORE = 1e-3
#: Share of exact zeros below which an image cannot be skull-stripped.
MIN_BACKGROUND = 0.05


@dataclass
class PreprocessReport(os.PathLike[str]):
    """Report of a run of `preprocess`; usable wherever a path is, as the path of the cache.

    Parameters
    ----------
    folder : Path
        The cache.
    done, skipped : list of str
        Subjects written now, and subjects that were already up to date.
    failed : dict of str to str
        Subject id to the reason, in one line.
    doubts : dict of str to tuple of str
        Id of a subject written now to what reading its files left doubtful.
    refused : str
        Why the system would not write a subject (a full disk), which no further subject was tried after; else empty.
    """

    folder: Path
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: str = ""

    def __fspath__(self) -> str:
        return str(self.folder)


# --------------------------------------------------------------------------------------------------------------
# One study
# --------------------------------------------------------------------------------------------------------------


def preprocess_study(
    images: dict[str, Volume],
    spacing_mm: float | Sequence[float] | None = None,
    label: Volume | None = None,
    spec: DataSpec = GLIOMA,
    anchor: Sequence[float] | None = None,
) -> Study:
    """Normalise the sequences of one study and bring them to one spacing.

    Parameters
    ----------
    images : dict of str to Volume
        Modality code to skull-stripped image; any non-empty part of `spec.modalities`, all on one grid.
    spacing_mm : float, sequence of float or None, default=None
        Spacing along (D, H, W); None keeps the input's.
    label : Volume or None, default=None
        Label map; BraTS 2021's 4 is read as `et` where the specification has that label.
    spec : DataSpec
    anchor : sequence of float or None, default=None
        Place (D, H, W) in native voxels that voxels of another spacing go by; None = that of the sequences given.

    Returns
    -------
    Study

    Raises
    ------
    UserError
        If a modality is unknown, the files do not belong together, an image is not skull-stripped or holds no
        contrast, or the label map has values the specification lacks.
    """
    unknown = [code for code in images if code not in spec.modalities]
    if unknown:
        raise UserError(f"study: unknown modality {unknown[0]!r}; use one of {', '.join(spec.modalities)}")
    images = {code: images[code] for code in spec.modalities if code in images}
    check_study(images, label)
    geometry = next(iter(images.values())).geometry
    brains = {code: np.isfinite(volume.array) & (volume.array != 0) for code, volume in images.items()}
    channels = len(spec.modalities)
    middles = np.zeros((channels, 3))
    for code, brain in brains.items():
        middles[spec.index(code)] = brain_middle(brain)
    present = np.array([code in images for code in spec.modalities])
    lattice, spacing = _choose_lattice(geometry, spacing_mm, anchor or choose_anchor(middles[present]))
    shape = lattice.shape(geometry.shape_dhw)
    image = np.full((channels, *shape), np.nan, np.float32)
    statistics = np.full((channels, len(STATISTICS)), np.nan, np.float32)
    boxes = np.zeros((channels, 2, 3), np.int64)
    for code, volume in images.items():
        channel = spec.index(code)
        image[channel], statistics[channel], boxes[channel] = _normalise(volume, brains[code], lattice, shape)
    return Study(
        image=image,
        present=present,
        label=None if label is None else resample_label(_map_labels(label, spec), lattice, shape),
        statistics=statistics,
        boxes=boxes,
        middles=middles,
        spacing_mm=spacing,
        geometry=geometry,
        lattice=lattice,
        ignore=spec.ignore,
    )


def other_anchors(study: Study) -> list[tuple[float, float, float]]:
    """Anchors of the subsets of a study but its own, in order; none where it is not resampled.

    Parameters
    ----------
    study : Study
        With all sequences that its files have.
    """
    has = np.flatnonzero(study.present)
    subsets = [list(chosen) for size in range(1, len(has)) for chosen in combinations(has, size)]
    return sorted({lattice.anchor for lattice in map(study.lattice_of, subsets)} - {study.lattice.anchor})


def _choose_lattice(
    geometry: Geometry, spacing_mm: float | Sequence[float] | None, anchor: Sequence[float]
) -> tuple[Lattice, tuple[float, float, float]]:
    """Lattice of the wanted spacing, and this spacing; the input's own where it already has it."""
    wanted = parse_spacing(spacing_mm)
    if wanted is None or np.allclose(wanted, geometry.spacing_mm, rtol=0, atol=1e-3):
        return NATIVE, geometry.spacing_mm
    # Headers in single precision give 1 mm as 0.99999994; a step of exactly 2 or 3 voxels keeps voxels whole.
    step = np.round(np.array(wanted) / geometry.spacing_mm, 6)
    if np.prod(np.array(geometry.shape_dhw) / np.maximum(step, 1e-6)) > MAX_VOXELS:
        raise UserError(f"study: a spacing of {wanted} mm makes too many voxels; choose a larger spacing")
    return Lattice.around(anchor, step.tolist(), geometry.shape_dhw), wanted


def parse_spacing(spacing_mm: float | Sequence[float] | None) -> tuple[float, float, float] | None:
    """Spacing (D, H, W) from one number or three.

    Raises
    ------
    UserError
        If it is not one or three numbers between `FINEST_MM` and `COARSEST_MM`.
    """
    if spacing_mm is None:
        return None
    try:
        values = np.atleast_1d(np.asarray(spacing_mm, dtype=float))
    except ValueError:
        values = np.full(1, np.nan)
    if values.shape not in ((1,), (3,)) or not ((values >= FINEST_MM) & (values <= COARSEST_MM)).all():
        raise UserError(
            f"spacing {spacing_mm}: is not one or three numbers of mm, {FINEST_MM:g} to {COARSEST_MM:g}; write e.g. 2"
        )
    d, h, w = np.broadcast_to(values, 3).tolist()
    return d, h, w


def _normalise(
    volume: Volume, brain: NDArray[np.bool_], lattice: Lattice, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """z-scores (D, H, W), raw statistics and box of one modality, from its own brain alone."""
    if brain.mean() > 1 - MIN_BACKGROUND:
        raise UserError(
            f"{volume.source}: has no empty background, so it is not skull-stripped; if it shows a whole head, "
            "say so (--raw)"
        )
    values = volume.array[brain].astype(np.float64)
    mean, std = (values.mean(), values.std()) if values.size else (0.0, 0.0)
    if std <= 1e-6 * max(1.0, abs(mean)):
        raise UserError(f"{volume.source}: is constant inside the brain; give the image itself")
    percentiles = np.percentile(values, [0.1, 1, 99, 99.9])
    statistics = np.array([mean, std, values.min(), values.max(), *percentiles], np.float32)
    image, brain = resample_image(volume.array, brain, lattice, shape)
    if not brain.any():
        raise UserError(f"{volume.source}: its brain is smaller than a voxel; choose a smaller spacing")
    zscore = np.clip((image - statistics[0]) / statistics[1], -MAX_ZSCORE, MAX_ZSCORE)
    zscore = zscore.astype(np.float16).astype(np.float32)
    zscore[zscore == 0] = np.float16(TINY_ZSCORE)
    return np.where(brain, zscore, np.float32(0)), statistics, brain_box(brain)


def _map_labels(label: Volume, spec: DataSpec) -> NDArray[np.integer]:
    """Label map in the specification's values."""
    array = label.array
    found = {int(value) for value in np.unique(array)}
    known = {0, *spec.labels.values(), *([] if spec.ignore is None else [spec.ignore])}
    if 4 in found and 4 not in known and "et" in spec.labels:
        if spec.labels["et"] in found:
            raise UserError(f"{label.source}: holds both 3 and 4, so that 4 cannot mean enhancing tumour; relabel it")
        array = np.where(array == 4, spec.labels["et"], array)
        found = found - {4} | {spec.labels["et"]}
    strange = sorted(found - known)
    if strange:
        names = ", ".join(f"{value} {name}" for name, value in spec.labels.items())
        raise UserError(f"{label.source}: holds the unknown label {strange[0]}; use 0 and {names}")
    return array.astype(label_dtype(spec))


# --------------------------------------------------------------------------------------------------------------
# A whole data set
# --------------------------------------------------------------------------------------------------------------


def preprocess(
    subjects: str | Path | Iterable[Subject],
    out: str | Path,
    spacing_mm: float | Sequence[float] | None = None,
    workers: int = 1,
    spec: DataSpec = GLIOMA,
    *,
    progress: bool = True,
) -> PreprocessReport:
    """Write the cache of a data set; run again, it continues where it stopped.

    Parameters
    ----------
    subjects : path-like or iterable of Subject
        ``subjects.csv`` or its content.
    out : path-like
        Cache folder, new or made with the same settings.
    spacing_mm : float, sequence of float or None, default=None
        Spacing along (D, H, W); None keeps each subject's own.
    workers : int, default=1
        Processes side by side, with one thread each.
    spec : DataSpec
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    PreprocessReport
        Subjects done, skipped (unchanged since the last run) and failed, with the reason. One failing subject
        does not stop the others.

    Raises
    ------
    UserError
        If the list is empty or names a subject twice, or the folder cannot be used.
    """
    if isinstance(subjects, (str, os.PathLike)):
        from anymri.data.index import read_subjects

        subjects, listed = read_subjects(subjects, check_files=False), str(subjects)
    else:
        subjects, listed = list(subjects), "subjects"
    ids = [subject.subject_id for subject in subjects]
    if not ids:
        raise UserError(f"{listed}: lists no subject; run anymri index on the data folder")
    twice = {name for name in ids if ids.count(name) > 1} if len(set(ids)) < len(ids) else set()
    if twice:
        raise UserError(f"{listed}: names the subject {min(twice)} twice; give each an id of its own")
    spacing = parse_spacing(spacing_mm)
    with one_writer(out):
        cache = Cache.create(out, spec, spacing)
        for part in (cache, *cache.sides()):
            remove_leftovers(part.folder)
        report = PreprocessReport(cache.folder)
        run = closing(_run(subjects, cache.folder, workers))
        with run as outcomes, progress_bar("preprocess", len(ids), progress) as bar:
            for subject_id, outcome, doubts in outcomes:
                bar.advance()
                report.doubts |= {subject_id: doubts} if doubts else {}
                if outcome == "done":
                    report.done.append(subject_id)
                elif outcome == "skipped":
                    report.skipped.append(subject_id)
                else:
                    report.failed[subject_id] = outcome
                if isinstance(outcome, _Refusal):
                    report.refused = outcome
                    break
    report.done.sort()
    report.skipped.sort()
    report.failed = dict(sorted(report.failed.items()))
    report.doubts = dict(sorted(report.doubts.items()))
    return report


#: Subject id; ``"done"``, ``"skipped"`` or the reason of a failure; what was doubtful.
_Outcome = tuple[str, str, tuple[str, ...]]


def _run(subjects: list[Subject], folder: Path, workers: int) -> Generator[_Outcome, None, None]:
    """Yield what became of each subject, in this process or in several."""
    if workers <= 1:
        for subject in subjects:
            yield _preprocess_subject(subject, folder)
        return
    # A child forked from here would inherit torch's thread pool in an unusable state; the fork server has none.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with worker_pool(min(workers, len(subjects)), context, _use_one_thread) as pool:
        futures = {pool.submit(_preprocess_subject, subject, folder): subject for subject in subjects}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield futures[future].subject_id, "a worker process died (out of memory?); use fewer workers", ()


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


class _Refusal(str):
    """Reason that is no fault of the subject."""


def _preprocess_subject(subject: Subject, folder: Path) -> _Outcome:
    """Bring one subject into the cache; whatever goes wrong becomes a reason."""
    try:
        check_cache_name(subject.subject_id)
        cache = Cache(folder)
        sources = _describe_sources(subject, cache.spec)
        facts = {name: getattr(subject, name) for name in SUBJECT_FACTS}
        if _is_current(cache, subject.subject_id, sources):
            return subject.subject_id, "done" if cache.update_facts(subject.subject_id, facts) else "skipped", ()
        images = {code: read_image(path) for code, path in subject.images.items() if code in cache.spec.modalities}
        label = None if subject.label is None else read_image(subject.label, kind="label")
        for code, volume in list(images.items())[:1]:  # one sequence tells whether a subject was stripped
            refuse_head(code, volume)
        images, label = _upright(subject, images, label)
        study = preprocess_study(images, cache._nominal_spacing_mm, label, cache.spec)
        sides = [
            preprocess_study(images, cache._nominal_spacing_mm, label, cache.spec, anchor)
            for anchor in other_anchors(study)
        ]
        cache.write_entry(subject.subject_id, study._replace(**facts), sources, sides)
    except RefusedWrite as error:
        return subject.subject_id, _Refusal(error), ()
    except UserError as error:
        return subject.subject_id, str(error), ()
    except Exception as error:  # one broken subject must not stop a night's run
        return subject.subject_id, f"{type(error).__name__}: {error}", ()
    read = images if label is None else {**images, "label": label}
    return (
        subject.subject_id,
        "done",
        tuple(f"{name}: {note}" for name, volume in read.items() for note in volume.notes),
    )


def _upright(
    subject: Subject, images: dict[str, Volume], label: Volume | None
) -> tuple[dict[str, Volume], Volume | None]:
    """Images and label map along the axes that the head stands along; refused where some sequences do not tell.

    Then a subset would be laid by a sequence that is not in it, or each by its own.
    """
    upright, notes = settle_axes(images)
    code, first = next(iter(upright.items()))
    turn = first.geometry.turn
    if notes and turn is None:
        raise UserError(f"{subject.images[code]}: {notes[0]}")
    upright[code] = first._replace(notes=(*first.notes, *notes))
    return upright, label if label is None or turn is None else turn_volume(label, turn)


def _describe_sources(subject: Subject, spec: DataSpec) -> dict[str, Any]:
    """Name, size and sha256 of every file that would be read; neither its folder nor its time matters."""
    files = {code: path for code, path in subject.images.items() if code in spec.modalities}
    if subject.label is not None:
        files["label"] = subject.label
    described = {}
    for name, path in sorted(files.items()):
        found = source_files(path)
        if not found:
            raise UserError(f"{path}: no such file; index the data again")
        described[name] = {
            "file": Path(path).name,
            "bytes": sum(file.stat().st_size for file in found),
            "sha256": _digest(found),
        }
    return described


def _digest(files: Sequence[Path]) -> str:
    """Sha256 over the content of files, in their order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            while piece := handle.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def _is_current(cache: Cache, subject_id: str, sources: dict[str, Any]) -> bool:
    """Whether the cache already holds this subject, undamaged and made from the same files and settings."""
    if not (cache.folder / f"{subject_id}.json").exists():
        return False
    try:
        if cache.sidecar(subject_id).key != cache.source_key(sources):
            return False
        cache.verify(subject_id)
        return True
    except UserError:
        return False
