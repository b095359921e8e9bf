"""BIDS file names: what a file is, by its entities, its suffix and the JSON file beside it.

``T1w`` is t1, after contrast agent t1c: ``ce-gadolinium``, ``acq-post``, ``acq-postcontrast``; ``ce-none`` and
``acq-pre`` say that none was given. ``acq-mprage_T1w`` is mprage where something asks for that, else t1.
``part-phase``, ``part-real`` and ``part-imag``, the inversion images of MP2RAGE (``inv-1``) and maps are no sequence.
Of several echoes the first is taken as T1-weighted and proton-density-weighted, the last as T2-weighted.
Source: bids-specification.readthedocs.io, chapters Magnetic Resonance Imaging and Entities.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from anymri.data.datasets.spellings import Reading, contrast_of, image_ending, modality_of, read_name, words_of
from anymri.modalities import MODALITIES

__all__ = ["SessionFiles", "entities_of", "fitting", "read_bids_name", "read_session", "session_files"]

#: BIDS suffix in small letters to modality code.
_SUFFIXES = {
    "t1w": "t1", "t2w": "t2", "flair": "flair", "pdw": "pd", "dir": "dir", "dwi": "dwi", "adc": "adc", "md": "md",
    "swi": "swi", "cbf": "cbf", "cbv": "cbv", "ct": "ct",
}  # fmt: skip
#: Suffixes of images that are none of these sequences, in small letters.
_OTHER_SUFFIXES = (
    "vfa irt1 mp2rage mpm mts mtr mese megre t2starw flash angio t1map t2map t2starmap r1map r2map r2starmap pdmap "
    "mtrmap mtsat unit1 t1rho mwfmap mtvmap chimap s0map m0map tb1map rb1map inplanet1 inplanet2 pdt2 bold cbvw sbref "
    "epi phasediff phase1 phase2 phase magnitude magnitude1 magnitude2 fieldmap m0scan asl aslcontext physio pet "
    "trace fa colfa"
)
_MASK_SUFFIXES = ("mask", "roi", "dseg", "probseg", "defacemask")
#: Folders of a session whose images are named when they are not understood; in others, e.g. ``func``, few would be.
_KINDS = ("anat", ".")
#: What takes part under another code where nothing asks for its own.
_RELATIVES = {"mprage": "t1", "t2_spir": "t2"}


class SessionFiles(NamedTuple):
    """Images of one session.

    Attributes
    ----------
    images : dict of str to Path
        Modality code to file, in the order of the registry.
    notes : tuple of (Path, str)
        File, and in a sentence why it is not used or what is doubtful about it.
    """

    images: dict[str, Path]
    notes: tuple[tuple[Path, str], ...]


class _Candidate(NamedTuple):
    rank: tuple[Any, ...]
    path: Path


def entities_of(name: str) -> dict[str, str]:
    """Entities of a BIDS name, key to value, e.g. ``{"sub": "01", "ce": "gadolinium"}``."""
    stem = name[: len(name) - len(image_ending(name))] if image_ending(name) else name
    pairs = (part.partition("-") for part in stem.split("_")[:-1])
    return {key.lower(): value for key, sign, value in pairs if sign}


def read_bids_name(name: str) -> Reading:
    """Read the name of an image file of a BIDS data set.

    Parameters
    ----------
    name : str
        With or without its ending.

    Returns
    -------
    Reading
    """
    stem = name[: len(name) - len(image_ending(name))] if image_ending(name) else name
    entities, suffix = entities_of(name), stem.split("_")[-1].lower()
    if suffix in _MASK_SUFFIXES or "label" in entities:
        return Reading(None, "a mask or label map, by its name", mask=True)
    if suffix in _OTHER_SUFFIXES.split():
        return Reading(None, f"{stem.split('_')[-1]} is none of the sequences that are read")
    if suffix not in _SUFFIXES:
        inside = "_".join(part for part in stem.split("_") if not re.match(r"(?i)(sub|ses|run)-", part))
        return read_name(inside)
    if entities.get("part", "mag").lower() not in ("mag", "magnitude"):
        return Reading(None, f"part-{entities['part']} is no magnitude image")
    if "inv" in entities:
        return Reading(None, f"inv-{entities['inv']} is an inversion image of MP2RAGE")
    return _weighting(_SUFFIXES[suffix], entities)


def _weighting(code: str, entities: dict[str, str]) -> Reading:
    """Code of a sequence after its entities ``acq``, ``ce``, ``rec`` and ``desc`` were read."""
    acquired = words_of(entities.get("acq", ""))
    words = [*acquired, *words_of(entities.get("rec", "")), *words_of(entities.get("desc", ""))]
    inside = read_name(" ".join([code, *(word for word in words if modality_of(word) in _MAY_CHANGE)]))
    if inside.code is None:
        return Reading(None, inside.reason, mask=inside.mask)
    says = {contrast_of(acquired), _contrast_entity(entities.get("ce"))} - {""}
    if code in ("t1", "mprage") and (len(says) > 1 or "both" in says):
        return Reading(None, "its name says with and without contrast agent")
    if code != "t1":
        return Reading(inside.code)
    if "with" in says:
        return Reading("t1c")
    if "mprage" in acquired:
        return Reading("mprage")
    return Reading("t1" if inside.code == "t1c" else inside.code)


#: Sequences that an entity may make of the one in the suffix (``acq-flair_T2w``); None = a word that names none.
_MAY_CHANGE = (None, "flair", "mprage", "t1_in", "t1_out", "t2_spir")
#: Values of ``ce`` that start so say that no contrast agent was given.
_NONE_GIVEN = frozenset(("none", "no", "non", "not", "without", "pre", "0", "n", "na", "native", "nativ", "plain"))


def _contrast_entity(value: str | None) -> str:
    """What the value of ``ce`` says, as `contrast_of`."""
    if value is None:
        return ""
    words = words_of(value)
    return "without" if contrast_of(words) == "without" or _NONE_GIVEN.intersection(words[:1]) else "with"


def session_files(folder: Path) -> list[Path]:
    """Files of a session in its folders ``anat``, ``dwi`` and so on, and any that lie beside these; sorted."""
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "ses-", "sub-"))]
    return sorted(path for place in (folder, *inner) for path in place.iterdir() if path.is_file())


def fitting(code: str, wanted: Collection[str] | None) -> str:
    """Code under which a sequence takes part: an MP-RAGE is a T1-weighted image where nothing asks for MP-RAGE.

    Parameters
    ----------
    code : str
    wanted : collection of str, or None
        Codes that the model takes or the data set describes; None where nothing says so.
    """
    if wanted is None:
        return _RELATIVES[code] if code == "mprage" else code
    return _RELATIVES.get(code, code) if code not in wanted else code


def read_session(folder: Path, wanted: Collection[str] | None = None) -> SessionFiles:
    """The sequences of one session's folder (``sub-01`` or ``sub-01/ses-1``), and what was there and is not used.

    Parameters
    ----------
    folder : Path
    wanted : collection of str, or None, default=None
        Codes that are asked for; an MP-RAGE then takes part as T1-weighted if only that is. None = all but MP-RAGE.

    Returns
    -------
    SessionFiles
        Of several images of one sequence the one with the fewest entities, then the first, is taken.
    """
    found: dict[str, list[_Candidate]] = {}
    notes: list[tuple[Path, str]] = []
    for path in session_files(folder):
        if not image_ending(path.name):
            continue
        reading = read_bids_name(path.name)
        if reading.code is None:
            kind = path.parent.name if path.parent != folder else "."
            if not reading.mask and kind in _KINDS:
                notes.append((path, f"{path.name}: not used; {reading.reason}"))
            continue
        code, doubts = _hold_against_sidecar(path, reading.code)
        inferred = code != reading.code
        code = fitting(code, wanted)
        found.setdefault(code, []).append(_Candidate(_rank(path, code, inferred), path))
        notes += [(path, doubt) for doubt in doubts]
    images = {}
    for code in (code for code in MODALITIES if code in found):
        best, *others = sorted(found[code])
        images[code] = best.path
        for other in others:
            name = MODALITIES[code].long_name
            text = f"{name}: {other.path.name} is not used, {best.path.name} was taken of {len(others) + 1}"
            notes = [note for note in notes if note[0] != other.path] + [(other.path, text)]
    return SessionFiles(images, tuple(notes))


def _rank(path: Path, code: str, inferred: bool) -> tuple[Any, ...]:
    """Key by which images of one sequence are ordered, the one to take first."""
    entities = entities_of(path.name)
    echo = int(re.sub(r"\D", "", entities.get("echo", "")) or 0)
    late = code in ("t2", "flair")  # with the echo time the T2 weighting grows
    count = len([key for key in entities if key not in ("echo", "part")])
    natural = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]
    return inferred, count, -echo if late and echo else echo, natural


# ---------------------------------------------------------------------------------------------- the JSON file beside

#: Times in a JSON file, and what is too long for each in seconds, so that it must be ms.
_TIMES = {"EchoTime": 1.0, "RepetitionTime": 40.0, "InversionTime": 10.0}


def _hold_against_sidecar(path: Path, code: str) -> tuple[str, list[str]]:
    """Code of an image after its JSON file was read, and sentences on what in that does not fit the name."""
    values = _read_sidecar(path)
    name = MODALITIES[code].long_name
    notes = []
    agent = str(values.get("ContrastBolusIngredient") or "").strip().lower()
    given = agent not in ("", "none", "no", "n/a", "na", "without")
    if code in ("t1", "mprage") and given:
        if contrast_of(words_of(entities_of(path.name).get("acq", ""))) or "ce" in entities_of(path.name):
            notes.append(f"{name}: the name of {path.name} says before contrast agent, its JSON file names an agent")
        else:
            notes.append(f"{MODALITIES['t1c'].long_name}: {path.name} is taken for it as its JSON file names an agent")
            code = "t1c"
    elif code == "t1c" and agent and not given:
        notes.append(f"{name}: the name of {path.name} says contrast agent, its JSON file says none")
    times = [_milliseconds(values.get(key), limit) for key, limit in _TIMES.items()]
    looks = _by_times(*times)
    if code == "flair" and looks == "t2":  # the inversion is often left out
        looks = ""
    group = {"t1c": "t1", "mprage": "t1", "t2_spir": "t2"}.get(code, code)
    if looks and looks != group and group in ("t1", "t2", "flair", "pd"):
        said = [
            f"{what} {value:.0f} ms"
            for what, value in zip(("echo", "repetition", "inversion"), times, strict=True)
            if value
        ]
        like = "STIR" if looks == "stir" else f"a {MODALITIES[looks].long_name} sequence"
        notes.append(f"{name}: the times beside {path.name} ({', '.join(said)}) are those of {like}; check which it is")
    return code, notes


def _read_sidecar(path: Path) -> dict[str, Any]:
    sidecar = path.with_name(path.name[: len(path.name) - len(image_ending(path.name))] + ".json")
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _milliseconds(value: object, limit_s: float) -> float:
    """A time of a sidecar in ms; 0 where there is none. BIDS writes seconds, some converters ms."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return 0.0
    return float(value) * 1000 if value < limit_s else float(value)


def _by_times(echo: float, repetition: float, inversion: float) -> str:
    """Weighting that echo, repetition and inversion time (ms) leave no doubt about; empty otherwise.

    Fat (T1 about 250 ms) is nulled by an inversion time below 300 ms, fluid (T1 about 4 s) by one of 1.5 s and more
    with a long repetition time. Between them, inversion serves T1 weighting, as does a short echo with a short
    repetition time. T2 weighting needs echoes near the T2 of tissue (80 ms) and a repetition time beyond its T1 (1 s).
    """
    if inversion and repetition > 3500 and 1500 <= inversion <= 3500:
        return "flair" if echo > 60 else ""
    if inversion and inversion < 300 and repetition > 1500 and echo > 20:
        return "stir"
    if 300 <= inversion < 1500 and 0 < echo < 35:
        return "t1"
    if inversion or not echo or not repetition:
        return ""
    if repetition > 1800 and echo > 60:
        return "t2"
    if repetition > 3500 and 5 < echo < 35:  # shorter ones may be T1 FLAIR whose inversion was left out
        return "pd"
    return "t1" if repetition < 1000 and echo < 30 else ""
