"""De-identification of a result: names of files and folders out of it, the person out of DICOM objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anymri.data.datasets.spellings import IMAGE_ENDINGS
from anymri.inference.output.result import Result
from anymri.modalities import MODALITIES

__all__ = ["SEED", "deidentify_object", "names_below", "without_names"]

#: Seed of dicognito: ``python -m dicognito --seed anymri STUDY`` gives the source the identifiers that the result has.
SEED = "anymri"
#: What stands in the place of a name.
HIDDEN = "[name]"
#: Names that say nothing of a person, and words of our own sentences.
_PLAIN = {*MODALITIES, "anat", "dicom", "image", "images", "mri", "brain", "series", "study", "nifti", "raw", "scan"}
_ENDINGS = "|".join(re.escape(end) for end in (*IMAGE_ENDINGS, ".dcm", ".ima", ".dicom", ".zip", ".json"))
#: A path, or a name of an image file, as far as it has no blanks.
_FILE = re.compile(rf"(?:[^\s'\"(,;]*/[^\s'\"),;]+)|(?:[^\s'\"(,;]+(?:{_ENDINGS})\b)", re.IGNORECASE)


def names_below(place: Path | None) -> list[str]:
    """Names of a study's folder and of all that is in it, as warnings may repeat them.

    Parameters
    ----------
    place : Path or None
        Folder or archive of a study; None where it was given as single files.
    """
    if place is None:
        return []
    place = place.resolve()
    found = [place.name, place.parent.name, *(path.name for path in place.rglob("*"))]
    return list(dict.fromkeys(found))


def without_names(result: Result, names: Iterable[str] = ()) -> Result:
    """A result that repeats no name of a file or folder.

    Parameters
    ----------
    result : Result
    names : iterable of str, default=()
        Names to take out beside those the result knows, e.g. of `names_below`.

    Returns
    -------
    Result
        The study is called by the checksum of its voxels, a file by its sequence.
    """
    inputs = result.provenance["inputs"]
    digest = hashlib.sha256("".join(inputs[code]["sha256_of_voxels"] for code in inputs).encode()).hexdigest()
    known = {result.name, *names, *(entry["name"] for entry in inputs.values())}
    known |= {frame.file.name for source in result.sources.values() for frame in source.slices.frames}
    known |= {name.partition(".")[0] for name in known}
    telling = [name for name in known if len(name) > 2 and not name.isdigit() and name.lower() not in _PLAIN]
    longest_first = sorted(telling, key=lambda name: (-len(name), name))
    pattern = "|".join(re.escape(name) for name in longest_first)
    named = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE) if pattern else None

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _FILE.sub(HIDDEN, named.sub(HIDDEN, value) if named else value)
        if isinstance(value, Mapping):
            return {key: clean(entry) for key, entry in value.items()}
        return type(value)(clean(entry) for entry in value) if type(value) in (list, tuple) else value

    hidden = {code: {**entry, "name": code} for code, entry in inputs.items()}
    return replace(
        result,
        name=f"study-{digest[:8]}",
        warnings=clean(result.warnings),
        trust={**result.trust, **clean({key: value for key, value in result.trust.items() if key != "measured"})},
        provenance={**result.provenance, "inputs": hidden},
    )


def deidentify_object(dataset: Any) -> None:
    """Give a DICOM object, in place, identifiers from which the source's cannot be read, and mark it so.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Nothing of the person was copied into it. dicognito replaces every identifier, here and in what it refers to.
    """
    from dicognito.anonymizer import Anonymizer

    own = [dataset.pop(name) for name in _OWN if name in dataset]
    Anonymizer(seed=SEED).anonymize(dataset)
    for element in own:
        dataset.add(element)


#: What is of the program and not of the person, or is empty; dicognito would fill in something made up.
_OWN = (
    "AccessionNumber", "ContentDate", "ContentTime", "PatientBirthDate", "PatientID", "PatientName", "PatientSex",
    "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime", "ContentCreatorName",
)  # fmt: skip
