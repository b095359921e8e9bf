"""From a DICOM study to one image per sequence: which series is what, and why; which are left out, and why.

Only a few header fields are read, and none of them is repeated: reasons name the rule that matched, never the text it
matched in, since people write names into descriptions. Series are called by their number in the order of the files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.nifti import Volume, read_image
from anymri.types import UserError

__all__ = ["Series", "classify_header", "is_dicom_study", "open_study", "read_series", "scan_series"]

#: Largest content of a zip archive that is unpacked, in bytes, and most files.
MAX_UNPACKED_BYTES = 16 * 2**30
MAX_FILES = 100_000
#: Fewest slices of a series that covers a brain.
MIN_SLICES = 10
_TAGS = [
    "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription", "ProtocolName", "ImageType", "Rows",
    "Columns", "RepetitionTime", "EchoTime", "InversionTime", "ContrastBolusAgent", "ImagePositionPatient",
    "NumberOfFrames", "ImageOrientationPatient", "EchoNumbers", "SeriesNumber", "DiffusionBValue",
]  # fmt: skip
#: Words of descriptions that name a sequence, in the order they are tried.
_WORDS = (
    ("localiser", r"localizer|localiser|scout|survey|topogram|3.?plane"),
    ("other", r"dwi|diff|dti|adc|trace|swi|t2\*|swan|bold|perf|asl|mra|tof|angio|phase|field.?map|spectro"),
    ("flair", r"flair|dark.?fluid|\btirm\b"),
    ("t1c", r"t1.*(gad|gd|\+c|contrast|post|\bce\b|\bkm\b|t1c)|(gad|gd|\+c|post|\bce\b).*t1|t1c|t1ce"),
    ("t1", r"t1|mp.?rage|\bspgr\b|bravo|\btfl\b"),
    ("t2", r"t2"),
    ("pd", r"\bpd\b|\bpdw\b|proton.?dens"),
)


@dataclass
class Series:
    """One DICOM series and what is known about it.

    Parameters
    ----------
    number : int
        From 1 on, in the order of the files.
    files : list of Path
    facts : dict
        Header fields of the first file; stays in memory.
    modality : str or None, default=None
        Code of the registry, or None where it is not used.
    reason : str
        Why it is this modality, or why it is left out.
    """

    number: int
    files: list[Path]
    facts: dict[str, Any] = field(repr=False)
    modality: str | None = None
    reason: str = ""

    def describe(self) -> dict[str, Any]:
        """What may be written down: nothing of a person."""
        return {"series": self.number, "files": len(self.files), "modality": self.modality, "reason": self.reason}


def is_dicom_study(path: Path) -> bool:
    """Whether a path is a zip archive or a folder that holds a DICOM file somewhere."""
    if path.is_file():
        return path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)
    return path.is_dir() and any(_is_dicom(file) for file in _files(path))


@contextmanager
def open_study(path: Path) -> Iterator[Path]:
    """Folder of a study; an archive is unpacked into a temporary one that is removed at the end.

    Raises
    ------
    UserError
        If the archive is damaged, unpacks to too much, or leads out of its folder.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="anymri-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
                    raise UserError(f"{path}: unpacks to more than is read; unpack it and give the study's folder")
                for number, entry in enumerate(entries):
                    # Names inside are not used: they could lead elsewhere, or name a person.
                    with archive.open(entry) as source, (Path(folder) / f"{number:06d}.dcm").open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError):
            raise UserError(f"{path}: is a damaged or encrypted archive; copy or unpack it again") from None
        try:
            yield Path(folder)
        except UserError as error:  # people know the archive, not where it was unpacked
            raise UserError(str(error).replace(folder, str(path))) from None


def scan_series(folder: Path, overrides: Mapping[str, int] | None = None) -> list[Series]:
    """List the series of a study and decide from the headers what each is.

    Parameters
    ----------
    folder : Path
        Searched with all its folders.
    overrides : mapping of str to int, optional
        Modality code to number of the series to use for it.

    Returns
    -------
    list of Series
        All of them; `Series.modality` is None and `Series.reason` says why where one is left out. A series whose
        header says nothing has the reason ``"header silent"``.

    Raises
    ------
    UserError
        If there is no DICOM file, pydicom is missing, or an override names no series.
    """
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for file in _files(folder):
        facts = _read_header(file)
        if facts is not None:
            groups.setdefault(str(facts.get("SeriesInstanceUID", "")), []).append((file, facts))
    if not groups:
        raise UserError(f"{folder}: holds no DICOM image; give the folder or zip archive of one study")
    found = []
    for number, members in enumerate(groups.values(), start=1):
        unique = {str(facts.get("SOPInstanceUID", file)): (file, facts) for file, facts in members}
        series = Series(number, [file for file, _ in unique.values()], members[0][1])
        positions = [facts.get("ImagePositionPatient") for _, facts in unique.values()]
        series.modality, series.reason = _judge(series, positions)
        found.append(series)
    return _override(_without_duplicates(found), overrides or {}, folder)


def classify_header(facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """Modality of a series by its header.

    Parameters
    ----------
    facts : mapping
        DICOM keywords to values: descriptions, ``RepetitionTime``, ``EchoTime``, ``InversionTime`` (ms),
        ``ContrastBolusAgent``.

    Returns
    -------
    str or None
        Registry code; None where unknown or not to be used.
    str
        Reason.
    """
    text = f"{facts.get('SeriesDescription') or ''} {facts.get('ProtocolName') or ''}".lower().replace("_", " ")
    word = next((code for code, pattern in _WORDS if re.search(pattern, text)), None)
    contrast = str(facts.get("ContrastBolusAgent") or "").strip().lower() not in ("", "no", "none")
    if word in ("localiser", "other"):
        return (
            None,
            "localiser, by its description" if word == "localiser" else "another kind of scan, by its description",
        )
    if word is not None:
        if word == "t1" and contrast:
            return "t1c", "description says t1, header names a contrast agent"
        return word, f"description says {word}"
    code, reason = _by_times(facts)
    if code == "t1" and contrast:
        return "t1c", f"{reason}, header names a contrast agent"
    return code, reason


def read_series(series: Series) -> Volume:
    """Voxels of one series, by dcm2niix where it is installed, else by the program's own reader.

    Returns
    -------
    Volume
        Its header holds geometry alone.

    Notes
    -----
    The program's own reader takes over where dcm2niix gives fewer slices than there are files, or gives none.

    Raises
    ------
    UserError
        If it does not give one volume.
    """
    name = f"DICOM series {series.number}"
    program = Path(sys.prefix) / "bin" / "dcm2niix"
    executable = str(program) if program.is_file() else shutil.which("dcm2niix")
    with tempfile.TemporaryDirectory(prefix="anymri-") as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for number, file in enumerate(series.files):
            (source / f"{number:06d}.dcm").symlink_to(file.absolute())
        try:
            volume = _read_whole(executable, source, Path(folder), series) if executable else None
            volume = volume or read_image(source)
        except UserError as error:
            reason = str(error).partition(": ")[2] or str(error)
            raise UserError(f"{name}: {reason}") from None
    return volume._replace(geometry=replace(volume.geometry, header=None), source=name)


def _read_whole(executable: str, source: Path, folder: Path, series: Series) -> Volume | None:
    """What dcm2niix makes of a series; None where it is not the whole, as when the series is split into several."""
    converted = _convert(executable, source, folder)
    try:
        volume = None if converted is None else read_image(converted)
    except UserError:
        return None
    if volume is None or series.facts.get("NumberOfFrames") or len(series.files) in volume.geometry.shape:
        return volume
    return None


def _convert(executable: str, source: Path, folder: Path) -> Path | None:
    """Run dcm2niix on a folder of one series; the largest volume it wrote, None if it makes none of even slices."""
    command = [executable, "-b", "n", "-z", "n", "-m", "y", "-f", "image", "-o", str(folder), str(source)]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=600)
    written = sorted(folder.glob("image*.nii"), key=lambda file: (-file.stat().st_size, file.name))
    # An _Eq file holds slices interpolated to equal gaps, which the scanner never measured.
    uneven = any("_Eq" in file.name for file in written)
    return None if run.returncode or not written or uneven else written[0]


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def _read_header(file: Path) -> dict[str, Any] | None:
    """The few fields that decide; None for other files."""
    try:
        import pydicom
    except ModuleNotFoundError:
        raise UserError("DICOM studies: need pydicom; pip install 'anymri[dicom]'") from None
    if not _is_dicom(file):
        return None
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        facts = {tag: getattr(header, tag, None) for tag in _TAGS}
    except Exception:  # whatever a damaged header raises, this file is no image of a series
        return None
    return facts if facts["Rows"] else None


def _judge(series: Series, positions: list[Any]) -> tuple[str | None, str]:
    """Modality and reason of one series, or None and what is wrong with it."""
    facts = series.facts
    if facts.get("Modality") not in (None, "", "MR"):
        return None, "is no MRI"
    kind = [str(part).upper() for part in (facts.get("ImageType") or [])]
    if "LOCALIZER" in kind:
        return None, "localiser, by its image type"
    # Sites rebuild whole studies as DERIVED; only reformats, projections and maps are certain.
    if any(part in kind for part in ("MPR", "PROJECTION IMAGE", "MIP", "ADC", "REFORMATTED", "MNIP", "SUBTRACTION")):
        return None, "derived from another series, by its image type"
    code, reason = classify_header(facts)
    if code is None and reason != "header silent":
        return None, reason
    if not facts.get("NumberOfFrames") and len(series.files) < MIN_SLICES:
        return None, f"incomplete: {len(series.files)} slices"
    gap = _uneven(positions, facts)
    return (None, gap) if gap else (code, reason)


def _uneven(positions: list[Any], facts: Mapping[str, Any]) -> str:
    """What is wrong with the places of the slices; nothing where they are even or unknown."""
    orientation = facts.get("ImageOrientationPatient")
    if facts.get("NumberOfFrames") or orientation is None or any(place is None for place in positions):
        return ""
    axes = np.array(orientation, float).reshape(2, 3)
    depth = np.sort(np.array(positions, float) @ np.cross(*axes))
    steps = np.diff(depth)
    if steps.size and np.ptp(steps) > 0.1 * np.median(steps):
        return "incomplete: slices are missing, doubled or unevenly spaced"
    return ""


def _by_times(facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """The textbook rule of thumb on repetition, echo and inversion time."""
    try:
        repetition, echo = (float(facts.get(tag) or 0) for tag in ("RepetitionTime", "EchoTime"))
        inversion = float(facts.get("InversionTime") or 0)
    except (TypeError, ValueError):
        return None, "header silent"
    if not repetition or not echo:
        return None, "header silent"
    if inversion > 1500 and repetition > 4000:
        return "flair", "long inversion and repetition time"
    if (repetition < 1200 and echo < 30) or (300 < inversion <= 1500 and echo < 30):
        return "t1", "short echo time with short repetition or inversion time"
    if repetition > 1800:
        return ("t2", "long repetition and echo time") if echo > 60 else ("pd", "long repetition, short echo time")
    return None, "header silent"


def _without_duplicates(found: list[Series]) -> list[Series]:
    """Of several series of one modality keep the one with most voxels (the last of equals: a repeat replaces)."""
    best: dict[str, Series] = {}
    for series in found:
        if series.modality is None:
            continue
        rival = best.get(series.modality)
        if rival is None or _voxels(series) >= _voxels(rival):
            best[series.modality] = series
    for series in found:
        if series.modality is not None and best[series.modality] is not series:
            series.reason = f"duplicate: series {best[series.modality].number} is the {series.modality} used"
            series.modality = None
    return found


def _voxels(series: Series) -> int:
    frames = int(series.facts.get("NumberOfFrames") or len(series.files))
    return int(series.facts["Rows"]) * int(series.facts.get("Columns") or 0) * frames


def _override(found: list[Series], overrides: Mapping[str, int], folder: Path) -> list[Series]:
    numbers = {series.number: series for series in found}
    for code, number in overrides.items():
        if number not in numbers:
            raise UserError(f"{folder}: has no series {number} for {code}; it has {', '.join(map(str, numbers))}")
        for series in found:
            if series.modality == code:
                series.modality, series.reason = None, "replaced by the user's choice"
        numbers[number].modality, numbers[number].reason = code, "chosen by the user"
    return found
