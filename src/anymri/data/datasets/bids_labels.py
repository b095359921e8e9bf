"""Lesion maps among the label maps of a BIDS data set.

Most ``dseg`` and ``mask`` files are of tissue, anatomy or the brain. One of lesions is told by its name
(``label-lesion``, ``label-L``, ``desc-tumor``), by the names in the table or JSON file beside it, or by the derivative
data set it is part of. Everything else is left alone, with the reason.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from anymri.data.datasets.bids_names import entities_of
from anymri.data.datasets.spellings import image_ending
from anymri.settings_file import MOST_TABLE_BYTES, check_file
from anymri.types import UserError

__all__ = ["find_label"]

_LESION = re.compile(
    r"(?i)lesion|tumou?r|gliom|glioblast|metasta|meningiom|strok|infarct|isch(a?)em|hyperintens|wmh|o?edema|necro|"
    r"enhanc|ha?emorrh|plaque|dysplas|whole_?tum|\bet\b|\bncr\b|\bgtv\b"
)
_TISSUE = re.compile(
    r"(?i)gr[ae]y|white.?matter(?!.*(lesion|hyperintens))|\bc?gm\b|\bwm\b|csf|cortex|hippocamp|thalam|putamen|caudate|"
    r"ventricle|cerebell|brain.?stem|gyrus|amygdala"
)
#: Programs whose maps are of anatomy, whatever else their description says.
_ANATOMY = re.compile(r"(?i)f?s?mriprep|freesurfer|fastsurfer|synthseg|cat12|\bants\b|nibabies|qsiprep|infantfs")
#: Spaces that are those of the images themselves.
_OWN_SPACES = frozenset(["orig", "native", "individual", "scanner", "t1w", "t2w", "flair"])
#: What `anymri` wrote into the description of its label maps.
_OURS = ("manual label maps", "manual lesion maps")


def find_label(
    root: Path, folder: Path, files: Collection[Path], images: Collection[Path], named: Collection[str] = ()
) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The one lesion map of a session, from the derivatives or else from its own folders.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    folder : Path
        The session's folder.
    files : collection of Path
        Files of the session.
    images : collection of Path
        Images that are used; a map must not be in another space.
    named : collection of str, default=()
        Labels that the data set's own description names; they count as lesions.

    Returns
    -------
    Path or None
        The map; ``dseg`` goes before ``mask``.
    list of (Path, str)
        Maps that are not used, and why.

    Raises
    ------
    UserError
        If there are two.
    """
    inside = folder.relative_to(root).as_posix()
    places = (f"derivatives/*/{inside}", f"derivatives/{inside}")
    derived = sorted(path for place in places for path in (*root.glob(f"{place}/*/*"), *root.glob(f"{place}/*")))
    spaces = {entities_of(path.name).get("space", "").lower() for path in images}
    found: dict[bool, list[Path]] = {True: [], False: []}
    notes = []
    for path in dict.fromkeys([*derived, *files]):
        if _kind(path) not in ("dseg", "mask", "roi", "probseg") or not path.is_file():
            continue
        reason = _why_not(root, path, spaces, named)
        if reason:
            notes.append((path, f"{path.name}: not used as label map; {reason}"))
        else:
            found[path in derived].append(path)
    maps = found[True] or found[False]
    chosen = [path for path in maps if _kind(path) == "dseg"] or maps
    if len(chosen) > 1:
        raise UserError(f"{chosen[1]}: a second label map beside {chosen[0].name}; keep one, or use --dataset folder")
    unused = [path for path in (*found[True], *found[False]) if path not in chosen]
    notes += [(path, f"{path.name}: not used as label map; {chosen[0].name} was taken") for path in unused]
    return (chosen[0] if chosen else None), notes


def _kind(path: Path) -> str:
    ending = image_ending(path.name)
    return path.name[: len(path.name) - len(ending)].split("_")[-1].lower() if ending else ""


def _why_not(root: Path, path: Path, spaces: Collection[str], named: Collection[str]) -> str:
    """Why a map is not taken for one of lesions; empty if it is."""
    entities = entities_of(path.name)
    own = [entities[key] for key in ("label", "desc", "acq") if key in entities]
    words = {name.lower() for name in named}
    is_named = any(word == "L" or _LESION.search(word) or word.lower() in words for word in own)
    if _kind(path) == "probseg":
        return "holds probabilities"
    space = entities.get("space", "").lower()
    if space and space not in spaces and space not in _OWN_SPACES:
        return f"is in the space {entities['space']}, the images are not"
    if is_named:
        return ""
    if "label" in entities or _kind(path) in ("mask", "roi"):
        return "its name does not say lesion or tumour (label-lesion)"
    values = _names_beside(root, path)
    if values:
        if any(_TISSUE.search(name) for name in values):
            return "the file beside it names tissues"
        if any(_LESION.search(name) or name.lower() in words for name in values):
            return ""
        return "the file beside it names no lesion"
    return _why_not_by_data_set(root, path)


def _names_beside(root: Path, path: Path) -> list[str]:
    """Names of the labels in the table or JSON file of a map, its own or one that its data set shares."""
    stem = path.name[: len(path.name) - len(image_ending(path.name))]
    tables = [path.with_name(f"{stem}.tsv"), path.with_name("dseg.tsv")]
    if "derivatives" in path.relative_to(root).parts:
        tables.append(_data_set(root, path) / "dseg.tsv")
    for table in tables:
        if table.is_file():
            check_file(table, MOST_TABLE_BYTES)
            with table.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
                rows = list(csv.DictReader(handle, delimiter="\t"))
            return [str(row.get("name") or row.get("abbreviation") or "") for row in rows]
    labels = _read_json(path.with_name(f"{stem}.json")).get("LabelMap", {})
    return [str(name) for name in (labels if isinstance(labels, dict) else {})]


def _data_set(root: Path, path: Path) -> Path:
    """Folder of the derivative data set that a file is part of."""
    parts = path.relative_to(root).parts
    return root / "derivatives" / parts[1] if not parts[1].startswith("sub-") else root / "derivatives"


def _why_not_by_data_set(root: Path, path: Path) -> str:
    silent = "nothing says that it is of lesions (label-lesion in its name, or a .tsv that names its values)"
    if "derivatives" not in path.relative_to(root).parts:
        return silent
    place = _data_set(root, path)
    values = _read_json(place / "dataset_description.json")
    if values.get("Name") in _OURS:
        return ""
    tools = values.get("GeneratedBy") or values.get("PipelineDescription") or []
    tools = tools if isinstance(tools, list) else [tools]
    texts = [values.get("Name"), *(tool.get("Name") for tool in tools if isinstance(tool, dict)), place.name]
    program = next((str(text) for text in texts if text and _ANATOMY.search(str(text))), None)
    if program:
        return f"{program} makes maps of anatomy"
    texts += [values.get("Description"), *(tool.get("Description") for tool in tools if isinstance(tool, dict))]
    return "" if any(text and _LESION.search(str(text).replace("_", " ")) for text in texts) else silent


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
