"""The images of a raw study, wherever they are: single files, a folder of NIfTI, a BIDS session, DICOM."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from anymri.data.dicom import (
    Series,
    choose_series,
    describe_unusable,
    describe_unused,
    is_dicom_study,
    open_study,
    read_series,
    scan_study,
)
from anymri.data.nifti import Volume, read_image
from anymri.types import UserError

__all__ = ["Found", "find_raw"]

Say = Callable[[str], None]


class Found(NamedTuple):
    """Images of a study.

    Attributes
    ----------
    images : dict of str to Volume
        Modality code to image.
    reasons : list of dict
        For DICOM studies what each series is and why; nothing of the person.
    notes : tuple of str
        What was there and is not used, with the reason; which of several was taken. Plain sentences, for warnings.
    """

    images: dict[str, Volume]
    reasons: list[dict[str, object]]
    notes: tuple[str, ...] = ()


def find_raw(
    study: Path | None,
    files: Mapping[str, str],
    wanted: Iterable[str],
    say: Say = lambda text: None,
    *,
    session: str | None = None,
) -> Found:
    """Read the images of a raw study.

    Parameters
    ----------
    study : Path or None
        Folder of NIfTI files, BIDS session, DICOM folder or zip archive.
    files : mapping of str to str
        Modality code to file, or for a DICOM study to the number of a series; goes before what is found.
    wanted : iterable of str
        Codes that the model takes; others are passed over.
    say : callable, optional
        Told in a line what each DICOM series is taken for.
    session : str or None, default=None
        Which of several studies or sessions to read: a number of the list that the refusal prints, a date, or a
        session's name.

    Returns
    -------
    Found

    Raises
    ------
    UserError
        If nothing usable is found or a choice does not exist.
    """
    allowed = list(wanted)
    for code in files:
        if code not in allowed:
            raise UserError(f"--series {code}={files[code]}: the model takes {', '.join(allowed)}")
    numbers = {code: int(text) for code, text in files.items() if text.isdigit()}
    paths = {code: text for code, text in files.items() if code not in numbers}
    images: dict[str, Volume] = {}
    reasons: list[dict[str, object]] = []
    notes: tuple[str, ...] = ()
    if study is not None and is_dicom_study(study):
        images, reasons, notes = _read_dicom(study, numbers, allowed, paths, say, session)
    elif numbers:
        code = next(iter(numbers))
        raise UserError(f"--series {code}={numbers[code]}: numbers choose series of a DICOM study; give a file here")
    elif study is not None:
        from anymri.data.index import find_study

        files_found = find_study(study, session, allowed, paths)
        notes = files_found.notes
        images = {code: read_image(path) for code, path in files_found.images.items()}
    images |= {code: read_image(path) for code, path in paths.items()}
    if not images:
        raise UserError(f"{study}: holds none of {', '.join(allowed)}; name them with --series t1=...")
    return Found({code: images[code] for code in allowed if code in images}, reasons, notes)


def _read_dicom(
    study: Path, numbers: dict[str, int], allowed: list[str], taken: Collection[str], say: Say, session: str | None
) -> Found:
    with open_study(study) as folder:
        scan = scan_study(folder, numbers, session)
        images = _read_chosen(study, scan.series, numbers, [code for code in allowed if code not in taken])
        silent = [series for series in scan.series if series.reason == "header silent"]
        _identify_silent(silent, allowed, images, taken)
        if study.is_file():  # the files of an archive are gone when a result refers to them
            for volume in images.values():
                _ = volume.dicom.headers
    for series in scan.series:
        left_out = f"{series.named} not used" if series.named else "not used"
        say(f"series {series.number}: {series.modality or left_out} ({series.reason})")
    notes = describe_unused(scan, allowed, {*taken, *numbers})
    if not images and not taken:
        raise UserError(f"{study}: holds no usable {', '.join(allowed)} {describe_unusable(scan, allowed)}")
    return Found(images, [one.describe() for one in scan.series], notes)


def _read_chosen(study: Path, series: list[Series], numbers: Mapping[str, int], codes: list[str]) -> dict[str, Volume]:
    """Images of the series that were chosen; where one cannot be read, the next best is taken."""
    images: dict[str, Volume] = {}
    for code in codes:
        while (one := next((one for one in series if one.modality == code), None)) is not None:
            try:
                images[code] = read_series(one)
                break
            except UserError as error:
                if code in numbers:  # a series alone has no name
                    raise UserError(f"{study}: {error}") from None
                one.modality, one.usable, one.reason = None, False, str(error).partition(": ")[2]
                choose_series([other for other in series if other.named == code])
    return images


def _identify_silent(
    silent: list[Series], allowed: list[str], images: dict[str, Volume], taken: Collection[str]
) -> None:
    """Tell series apart by their images where the headers say nothing; never in place of one that a header names."""
    from anymri.data.raw.identify import identify_contrast

    for series in silent:
        try:
            volume = read_series(series)
            code, reason = identify_contrast(volume)
        except UserError as error:
            series.reason = f"header silent; image not usable: {str(error).partition(': ')[2]}"
            continue
        if code is None or code not in allowed:
            series.reason = f"header silent; {reason}"
        elif code in images or code in taken:
            series.reason = f"header silent; {reason}, but there is a {code} already"
        else:
            series.modality, series.reason = code, f"header silent; {reason}"
            images[code] = volume
