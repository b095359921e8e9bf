"""Study files: which files of a folder are the sequences of one study.

A folder is read as what it is named as: a BIDS data set, subject or session; cases of nnU-Net; a flat folder whose
names are understood word by word; a known layout with folders of its own; a folder per sequence. One that holds several
studies is refused with their names. Whatever image is not used is named, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from anymri.data.datasets import brats2015, isles2015, msseg2016, nnunet, wmh2017
from anymri.data.datasets.bids import find_sessions
from anymri.data.datasets.bids_names import fitting, read_session
from anymri.data.datasets.layout import FolderLayout, check_root
from anymri.data.datasets.spellings import IMAGE_ENDINGS, Reading, image_ending, read_name
from anymri.files import why_no_file
from anymri.modalities import MODALITIES
from anymri.types import UserError

__all__ = ["StudyFiles", "find_cases", "find_studies", "find_study", "may_hold_images"]

#: Endings of images in formats that are not read.
_OTHER_ENDINGS = (".mgz", ".mgh", ".img", ".mnc", ".nii.bz2", ".nii.zst")
#: How many folders deep studies are looked for, and how many are named in a message.
_DEPTH, _NAMED = 3, 8
#: A case's name and a channel's number, as nnU-Net writes them.
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")


class StudyFiles(NamedTuple):
    """Files of one study.

    Attributes
    ----------
    images : dict of str to Path
        Modality code to file, in the registry's order.
    notes : tuple of str
        Images that were there and are not used, with the reason; which of several was taken. Plain sentences.
    """

    images: dict[str, Path]
    notes: tuple[str, ...] = ()


class _Request(NamedTuple):
    """What was asked for besides the folder; see `find_study`."""

    session: str | None
    wanted: Collection[str] | None
    given: Mapping[str, Path]

    def has(self, path: Path) -> bool:
        """Whether the user gave this very file."""
        return any(path.name == file.name and path.resolve() == file.resolve() for file in self.given.values())


class _Image(NamedTuple):
    path: Path
    reading: Reading


def find_study(
    folder: Path | str,
    session: str | None = None,
    wanted: Collection[str] | None = None,
    given: Mapping[str, Path | str] | None = None,
) -> StudyFiles:
    """The sequences of one study, recognised by their file names in any known layout.

    Parameters
    ----------
    folder : path-like
        The study's own folder, or one that holds it alone.
    session : str or None, default=None
        Which of several, where the folder holds more than one: a session (``ses-2`` or ``2``), a subject (``sub-01``),
        both (``sub-01_ses-2``), a folder in it, or a case of nnU-Net.
    wanted : collection of str, or None, default=None
        Codes that the model takes; images of other sequences become notes. None = every known one.
    given : mapping of str to path-like, or None, default=None
        Codes of which the user chose the file; images of these are passed over.

    Returns
    -------
    StudyFiles

    Raises
    ------
    UserError
        If it is no folder, holds several studies, no sequence is recognised, or two files could be one sequence.
    """
    folder = check_root(folder)
    request = _Request(session, wanted, {code: Path(path) for code, path in (given or {}).items()})
    found = (
        _from_bids(folder, request)
        or _from_nnunet(folder, request)
        or _from_one_study(folder, request)
        or _from_inner_folders(folder, request)
    )
    if found is None and not given:
        raise UserError(
            f"{folder}: no sequence recognised{_why(folder)}; name files t1.nii.gz ... or give single files"
        )
    if found is None or wanted is None:
        return found or StudyFiles({})
    images = {code: path for code, path in found.images.items() if code in wanted}
    others = {code: path for code, path in found.images.items() if code not in wanted}
    if not images and not given:
        raise UserError(f"{folder}: holds {', '.join(others)}, but the model takes {', '.join(wanted)}; choose another")
    notes = tuple(f"{path.name}: not used; the model does not take {code}" for code, path in others.items())
    return StudyFiles(images, (*_protocol_doubt({**images, **request.given}, others), *found.notes, *notes))


def _protocol_doubt(images: Mapping[str, Path], others: Mapping[str, Path]) -> list[str]:
    """What the sequences of a study say of why it was made: diffusion without any T1 is how stroke is looked for."""
    if not {"dwi", "adc"} & set(others) or {"t1", "t1c"} & set(images):
        return []
    text = (
        "The study holds diffusion images but neither T1 nor T1c, as studies of acute stroke do: a model that was not "
        "made for stroke marks something else in it, or nothing that it knows."
    )
    return [text]


def find_studies(folder: Path) -> list[Path]:
    """Folders below a folder that are a study each, or hold the sessions or cases of one.

    Parameters
    ----------
    folder : Path
        Itself, where its own images are a study, it is the only one.
    """
    return [folder] if _holds_study(folder) else list(_studies(folder, _DEPTH))


def may_hold_images(folder: Path) -> bool:
    """Whether a file below a folder is named like an image of any format, read or not, or like an archive."""
    endings = (*IMAGE_ENDINGS, *_OTHER_ENDINGS, ".dcm", ".ima", ".zip")
    return any(path.name.lower().endswith(endings) for path in folder.rglob("*") if not path.name.startswith("."))


def find_cases(folder: Path) -> list[str]:
    """Names of the cases of a folder whose files are named as nnU-Net does (``case_0000.nii.gz``); often none."""
    matches = (_CHANNEL.fullmatch(_stem(image.path)) for image in _images(folder) if image.reading.code is None)
    cases = sorted({match["case"] for match in matches if match is not None and read_name(match["case"]).code is None})
    return [] if any(image.reading.code for image in _images(folder)) else cases


def _without_given(images: Mapping[str, Path], notes: Iterable[tuple[Path, str]], request: _Request) -> StudyFiles:
    """What was found without the sequences and files that the user gave."""
    taken = {code: path for code, path in images.items() if code not in request.given and not request.has(path)}
    return StudyFiles(taken, tuple(text for path, text in notes if not request.has(path)))


# --------------------------------------------------------------------------------------------------------------- BIDS


def _from_bids(folder: Path, request: _Request) -> StudyFiles | None:
    session = request.session
    sessions = find_sessions(folder)
    if not sessions:
        return None
    asked = None if session is None else session.replace("/", "_")
    names = [name for name in sessions if asked is None or _is_asked(name, asked)]
    # The only session there is may be asked for by a name that its folder does not show.
    if len(names) == 1:
        found = read_session(sessions[names[0]], request.wanted)
        return _without_given(found.images, found.notes, request)
    if asked is not None and not names:
        raise UserError(f"{folder}: has no session {session}; it has {_listed(list(sessions))}")
    subjects = {name.partition("_")[0] for name in names if name.startswith("sub-")}
    if len(subjects) > 1 and asked is None:
        remedy = f"give the folder of one, e.g. {names[0].replace('_', '/')}, or --session {names[0]}"
    else:
        remedy = f"choose one with --session {names[-1]}, or give its folder"
    kind = "sessions" if any("ses-" in name for name in names) else "subjects"
    raise UserError(f"{folder}: holds {len(names)} {kind}: {_listed(names)}; {remedy}")


def _is_asked(name: str, asked: str) -> bool:
    """Whether a session, e.g. ``sub-01_ses-2``, is asked for by ``2``, ``ses-2``, ``sub-01`` or all of its name."""
    parts = name.split("_")
    return asked == name or asked in parts or f"ses-{asked}" in parts


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


# -------------------------------------------------------------------------------------------------------- flat folders


def _images(folder: Path) -> list[_Image]:
    """Image files directly in a folder with what their names say."""
    paths = sorted(path for path in folder.iterdir() if image_ending(path.name) and path.is_file())
    return [_Image(path, read_name(_stem(path))) for path in paths]


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(image_ending(path.name))]


def _read_folder(folder: Path, request: _Request) -> StudyFiles | None:
    """The sequences among the files of a folder; None if there is none."""
    images = _images(folder)
    if not any(image.reading.code for image in images):
        return None
    return _choose(folder, images, request, [*_not_opened(folder), *_unread(folder)])


def _choose(folder: Path, images: list[_Image], request: _Request, notes: list[tuple[Path, str]]) -> StudyFiles:
    """One file for every sequence; the others become notes."""
    found: dict[str, list[_Image]] = {}
    for image in images:
        if request.has(image.path):
            continue
        if image.reading.code:
            found.setdefault(fitting(image.reading.code, request.wanted or MODALITIES), []).append(image)
        elif not image.reading.mask:
            notes.append((image.path, f"{image.path.name}: not used; {image.reading.reason}"))
    chosen = {}
    for code in (code for code in MODALITIES if code in found):
        name = MODALITIES[code].long_name
        if code in request.given:
            notes += [
                (image.path, f"{name}: {image.path.name} is not used, another was given") for image in found[code]
            ]
            continue
        best = _best(folder, code, found[code], needed=request.wanted is None or code in request.wanted)
        chosen[code] = best.path
        notes += [
            (image.path, f"{name}: {image.path.name} is not used, {best.path.name} was taken of {len(found[code])}")
            for image in found[code]
            if image != best
        ]
    return _without_given(chosen, notes, request)


def _best(folder: Path, code: str, images: list[_Image], needed: bool) -> _Image:
    """The image to take of several that are one sequence.

    Of one name with two endings the preferred format is taken; a name that is nothing but the sequence, with or without
    the folder's name in front, goes before one with more words. Between equals nobody can choose.
    """
    ordered = sorted(images, key=lambda image: IMAGE_ENDINGS.index(image_ending(image.path.name).lower()))
    one_each = list({_stem(image.path).lower(): image for image in reversed(ordered)}.values())
    plain = [image for image in one_each if _is_plain(folder, image)]
    best = sorted(plain or one_each, key=lambda image: image.path.name)
    if len(best) > 1 and needed:
        first, second = best[0].path.name, best[1].path.name
        raise UserError(
            f"{folder}: {first} and {second} are both {code}; give single files, or choose one (--series {code}=FILE)"
        )
    return best[0]


def _is_plain(folder: Path, image: _Image) -> bool:
    stem = _stem(image.path)
    rest = stem[len(folder.name) :] if stem.lower().startswith(folder.name.lower()) else stem
    return image.reading.plain or read_name(rest.lstrip("_-. ")).plain


def _unread(folder: Path) -> list[tuple[Path, str]]:
    """Sentences on images in folders of a folder whose own images are the study."""
    notes = []
    for inner in _inner_folders(folder):
        names = [path.name for path in inner.rglob("*") if image_ending(path.name)]
        names = [name for name in names if not read_name(name[: -len(image_ending(name))]).mask]
        if names:
            count = "1 image in it is" if len(names) == 1 else f"{len(names)} images in it are"
            notes.append((inner, f"folder {inner.name}: {count} not used; the sequences were found beside it"))
    return notes


def _not_opened(folder: Path) -> list[tuple[Path, str]]:
    """Sentences on images of a format that is not read, and on links to nothing and pipes."""
    lost = {path: why_no_file(path) for path in sorted(folder.iterdir()) if image_ending(path.name)}
    broken = [(path, f"{path.name}: not used; {why}") for path, why in lost.items() if why]
    paths = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_OTHER_ENDINGS) and path.is_file())
    named = [(path, read_name(path.name.partition(".")[0])) for path in paths if not path.name.startswith(".")]
    text = "not used; its format is not read, convert it to .nii.gz"
    return broken + [(path, f"{path.name}: {text}") for path, said in named if not said.mask]


def _inner_folders(folder: Path) -> list[Path]:
    """Folders in a folder, but for hidden ones and results of the program."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for path in inner if not (path / "result.json").is_file()]


# ------------------------------------------------------------------------------------------------------------- nnU-Net


def _from_nnunet(folder: Path, request: _Request) -> StudyFiles | None:
    """Files ``CASE_0000.nii.gz`` whose numbers the ``dataset.json`` beside or above them explains."""
    images = _images(folder)
    numbered = {image.path: match for image in images if (match := _CHANNEL.fullmatch(_stem(image.path)))}
    numbered = {path: match for path, match in numbered.items() if read_name(match["case"]).code is None}
    if not numbered or any(image.reading.code for image in images):
        return None
    description = next((place for place in (folder, folder.parent) if (place / "dataset.json").is_file()), None)
    first = next(iter(numbered))
    if description is None:
        number = numbered[first]["number"]
        raise UserError(
            f"{first}: {number} is a channel number of nnU-Net, and no dataset.json beside or above it says which "
            "sequence that is; add the file, or give single files"
        )
    codes = nnunet.channel_codes(description)
    cases = sorted({match["case"] for match in numbered.values()})
    session = request.session
    asked = [case for case in cases if session in (None, case)]
    if len(asked) != 1:
        what = f"has no case {session}; it has" if not asked else f"holds {len(cases)} cases:"
        raise UserError(f"{folder}: {what} {_listed(cases)}; choose one with --session {cases[0]}")
    readings = [
        _Image(path, Reading(codes.get(int(match["number"])), f"dataset.json names no channel {match['number']}"))
        for path, match in numbered.items()
        if match["case"] == asked[0]
    ]
    rest = [image for image in images if image.path not in numbered]
    return _choose(folder, [*readings, *rest], request, _not_opened(folder))


# ------------------------------------------------------------------------------------- layouts and folders of folders


def _layouts() -> list[FolderLayout]:
    """Layouts that keep the files of a subject in folders of their own."""
    return [brats2015.LAYOUT, isles2015.SISS, isles2015.SPES, msseg2016.LAYOUT, wmh2017.LAYOUT]


def _from_one_study(folder: Path, request: _Request) -> StudyFiles | None:
    found = _read_folder(folder, request) or _read_layouts(folder) or _read_sequence_folders(folder, request)
    if found is not None and request.session is not None:
        raise UserError(f"{folder}: has no sessions, it is one study; leave --session {request.session} out")
    return found


def _read_layouts(folder: Path) -> StudyFiles | None:
    subjects = (layout.read(folder) for layout in _layouts())
    subject = next((subject for subject in subjects if subject is not None), None)
    return None if subject is None else StudyFiles({c: subject.images[c] for c in MODALITIES if c in subject.images})


def _read_sequence_folders(folder: Path, request: _Request) -> StudyFiles | None:
    """Images that lie in a folder each, named by the sequence (``T1/scan.nii.gz``); None if that is not so."""
    images = []
    for inner in _inner_folders(folder):
        said = read_name(inner.name)
        for path, reading in _images(inner):
            if reading.mask:
                continue
            if reading.code and reading.code != said.code:  # T1 is the first time point, not a sequence
                return None
            images.append(_Image(path, said if said.code else Reading(None, f"folder {inner.name}: {said.reason}")))
    if not any(image.reading.code for image in images):
        return None
    return _choose(folder, images, request, [])


def _from_inner_folders(folder: Path, request: _Request) -> StudyFiles | None:
    """The one study that the folders in a folder hold; several are refused."""
    studies = {path.relative_to(folder).as_posix(): path for path in _studies(folder, _DEPTH)}
    if not studies:
        return None
    session = request.session
    asked = [name for name in studies if session is None or session in (name, name.rpartition("/")[2])]
    within = request if len(studies) == 1 and not asked else request._replace(session=None)
    if len(asked) == 1 or len(studies) == 1:
        inner = studies[asked[0] if asked else next(iter(studies))]
        return _from_bids(inner, within) or _from_nnunet(inner, within) or _from_one_study(inner, within)
    if not asked:
        raise UserError(f"{folder}: has no study {session}; it has {_listed(list(studies))}")
    first = folder / asked[0]
    raise UserError(f"{folder}: holds {len(asked)} studies: {_listed(asked)}; give the folder of one, e.g. {first}")


def _studies(folder: Path, depth: int) -> Iterator[Path]:
    """Folders below a folder in which sequences are recognised."""
    for inner in _inner_folders(folder):
        if _holds_study(inner):
            yield inner
        elif depth > 1:
            yield from _studies(inner, depth - 1)


def _holds_study(folder: Path) -> bool:
    try:
        if any(image.reading.code for image in _images(folder)) or find_sessions(folder):
            return True
        anything = _Request(None, None, {})
        return bool(_from_nnunet(folder, anything) or _read_layouts(folder) or _read_sequence_folders(folder, anything))
    except UserError:  # there is one, or several, that cannot be read without a choice
        return True


def _why(folder: Path) -> str:
    """What was there instead, for the message."""
    reasons = [f"{image.path.name}: {image.reading.reason}" for image in _images(folder)]
    reasons += [text.replace(": not used; ", ": ") for _, text in _not_opened(folder)]
    return f" ({'; '.join(reasons[:3])}{'; ...' if len(reasons) > 3 else ''})" if reasons else ""
