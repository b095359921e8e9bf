"""Quality of many studies: found in a folder or table, judged one by one without predicting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from anymri.data.dicom import is_dicom_study
from anymri.data.index import find_study, index_dataset, read_subjects
from anymri.data.nifti import Volume, check_study, read_image
from anymri.data.raw.source import find_raw
from anymri.data.raw.stripped import check_stripped
from anymri.data.raw.study import RawOptions, prepare_raw
from anymri.data.upright import settle_axes
from anymri.errors import UserError
from anymri.inference.trust.quality.study import StudyQuality, judge_study
from anymri.inference.trust.sequence_check import brains_of
from anymri.modalities import MODALITIES

__all__ = ["Judged", "find_studies", "judge_studies", "order_by_doubt"]


class Judged(NamedTuple):
    """Quality of one study of a cohort.

    Attributes
    ----------
    name : str
    quality : StudyQuality or None
        None where the study could not be read.
    error : str
        Why it could not; else empty.
    """

    name: str
    quality: StudyQuality | None
    error: str = ""


def find_studies(place: Path, dataset: str | None = None, session: str | None = None) -> dict[str, dict[str, Path]]:
    """Studies of a folder or table, and their files.

    Parameters
    ----------
    place : Path
        One study, a folder of studies, a BIDS data set, a layout of `anymri.data.datasets`, or a table of `anymri
        index`; or a DICOM study, which has no files by sequence yet.
    dataset : str or None, default=None
        Layout; None = found out.
    session : str or None, default=None
        Which of several sessions of one study.

    Returns
    -------
    dict of str to dict of str to Path
        Name of the study to modality code to file; empty files for a DICOM study.

    Raises
    ------
    UserError
        If there is no study.
    """
    if place.suffix == ".csv":
        return {subject.subject_id: dict(subject.images) for subject in read_subjects(place)}
    if dataset is None and is_dicom_study(place):
        return {place.resolve().name: {}}
    if dataset is not None:
        return {subject.subject_id: dict(subject.images) for subject in index_dataset(place, dataset)}
    try:
        return {place.resolve().name: find_study(place, session).images}
    except UserError:
        if session is not None or not place.is_dir():
            raise
        layout = "bids" if (place / "dataset_description.json").is_file() else "folder"
        try:
            subjects = index_dataset(place, layout)
        except UserError:
            subjects = []
        if not subjects:
            raise
    return {subject.subject_id: dict(subject.images) for subject in subjects}


def judge_studies(
    studies: Mapping[str, Mapping[str, Path]], place: Path, raw: RawOptions | None = None, session: str | None = None
) -> Iterator[Judged]:
    """Judge studies one after the other; one that cannot be read does not stop the rest.

    Parameters
    ----------
    studies : mapping of str to mapping of str to Path
        From `find_studies`.
    place : Path
        Where they were found.
    raw : RawOptions or None, default=None
        How to align the images and find the brain first; None = the images are aligned brains.
    session : str or None, default=None
        Which of several sessions of a DICOM study.
    """
    for name, files in studies.items():
        try:
            yield Judged(name, judge_study(_brains(dict(files), place, raw, session)))
        except UserError as error:
            yield Judged(name, None, str(error))


def order_by_doubt(judged: Sequence[Judged]) -> list[Judged]:
    """Studies that could not be read first, then by their worst sequence."""

    def key(study: Judged) -> tuple[float, str]:
        if study.quality is None:
            return -9.0, study.name
        return -max((found.doubt for found in study.quality.sequences.values()), default=0.0), study.name

    return sorted(judged, key=key)


def _brains(files: dict[str, Path], place: Path, raw: RawOptions | None, session: str | None) -> dict[str, Volume]:
    """Brains of one study on one grid, in the values of the scanner."""
    if not files:
        images = find_raw(place, {}, tuple(MODALITIES), session=session).images
        raw = raw or RawOptions()
    else:
        images = {code: read_image(path) for code, path in files.items()}
    if raw is not None:
        prepared = prepare_raw(images, raw)
        return brains_of(prepared.heads, prepared.images)
    check_study(images)
    check_stripped(images)
    return settle_axes(images)[0]
