"""Series classification: the sequence by image type, words and times of the header; times are held against words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from anymri.data.dicom.contrast import contrast_in, says_none
from anymri.data.dicom.words import REFORMAT, SUSCEPTIBILITY, Words, read_words

__all__ = ["SILENT", "Judgement", "classify_header", "image_part", "judge_header"]

#: Reason of a series whose header tells nothing.
SILENT = "header silent"
#: Relaxation time T1 of cerebrospinal fluid in ms, at 1.5 and 3 T.
T1_CSF_MS = 4300.0
#: How far a FLAIR's inversion time may be from the one that nulls CSF: readout trains and field strengths differ.
NULL_RANGE = (0.6, 1.5)

#: Parts of ImageType, whatever their place, and the kind of image they tell.
_TYPES = {
    "localiser": {"LOCALIZER"},
    "phase image": {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "PHASE MAP_FFE"},
    "real or imaginary image": {"R", "REAL", "I", "IMAGINARY"},
    "diffusion image": {"ADC", "TRACEW", "FA", "DIFFUSION", "TENSOR", "TENSOR_B0", "DTI", "EADC", "ADC_UNSPECIFIED"},
    "perfusion or functional image": {
        "PERFUSION", "ASL", "FMRI", "CBF", "CBV", "RELCBF", "RELCBV", "RCBF", "RCBV", "MTT", "TTP", "PBP", "GBP",
        "RELMTT", "RELTTP", "MOSAIC", "TMAX",
    },
    SUSCEPTIBILITY: {"SWI", "T2_STAR", "SUSCEPTIBILITY", "QSM", "SWAN", "R2_STAR"},
    "angiogram": {"TOF", "ANGIO", "ANGIO_TIME", "FLOW_ENCODED", "VELOCITY", "TIME_OF_FLIGHT"},
    "MP2RAGE image": {"UNI", "UNI-DEN", "UNI_DEN", "INV1", "INV2", "MP2RAGE"},
    "STIR image": {"STIR"},
    REFORMAT: {
        "MPR", "MIP", "MNIP", "MINIP", "MIN IP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "PROJECTION", "REFORMATTED",
        "REFORMAT", "SUBTRACTION", "SUBTRACT", "SUB", "MEAN_IP", "CURVED", "VOLUME RENDERING", "RENDERING", "CPR",
    },
    "fat or opposed-phase image": {
        "F", "FAT", "F_FFE", "OP", "OUT_PHASE", "OPP_PHASE", "OUT_OF_PHASE", "OPPOSED", "FAT_FRACTION", "FF",
    },
    "picture of a report": {"SCREEN SAVE", "SCREENSAVE"},
}  # fmt: skip
_COMPONENTS = {"PHASE": "phase image", "REAL": "real or imaginary image", "IMAGINARY": "real or imaginary image"}
_GE_COMPONENTS = {1: "phase image", 2: "real or imaginary image", 3: "real or imaginary image"}
#: Kinds that people take for one of the sequences, since its name is in theirs.
_NEAR = (
    SUSCEPTIBILITY, REFORMAT, "map", "phase image", "real or imaginary image", "MP2RAGE image", "STIR image",
    "fat or opposed-phase image",
)  # fmt: skip
#: What enhanced headers call the weighting.
_FLAVOURS = {"T1": "t1", "T2": "t2", "FLUID_ATTENUATED": "flair", "PROTON_DENSITY": "pd"}


class Judgement(NamedTuple):
    """Judgement of a series by its header.

    Attributes
    ----------
    code : str or None
        Registry code, or None where unknown or not to be used.
    reason : str
    named : str or None
        Sequence that the header names, also where it is not to be used.
    kind : str
        What it is where it is no such sequence: a noun that takes an s.
    told : bool
        Whether words, not times alone, name the sequence.
    resembles : str or None
        Sequence that words name although it is left out as another kind: people may miss it.
    """

    code: str | None
    reason: str
    named: str | None = None
    kind: str = ""
    told: bool = False
    resembles: str | None = None


class _Times(NamedTuple):
    """Repetition, echo and inversion time in ms, None where unknown; kind of echo."""

    repetition: float | None
    echo: float | None
    inversion: float | None
    gradient: bool
    planar: bool

    def text(self) -> str:
        known = {"repetition": self.repetition, "echo": self.echo, "inversion": self.inversion}
        text = ", ".join(f"{name} time {value:g} ms" for name, value in known.items() if value)
        return f"{text}, gradient echo" if self.gradient else text


def classify_header(facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """Modality of a series by its header.

    Parameters
    ----------
    facts : mapping
        DICOM keywords to values: descriptions, ``ImageType``, ``RepetitionTime``, ``EchoTime``, ``InversionTime`` (ms),
        ``ScanningSequence``, ``ContrastBolusAgent``.

    Returns
    -------
    str or None
        Registry code; None where unknown or not to be used.
    str
        Reason.

    Notes
    -----
    Words go first, but the times must fit them: a description that the times contradict gives None. A description that
    names no sequence leaves it to the times.
    """
    judged = judge_header(facts)
    return judged.code, judged.reason


def judge_header(facts: Mapping[str, Any], *, echoes: int = 1) -> Judgement:
    """Modality of a series by its header, with what else it tells.

    Parameters
    ----------
    facts : mapping
        As for `classify_header`.
    echoes : int, default=1
        Echo times of the series this is a part of: a description holds for one of them only.
    """
    part = image_part(facts)
    text, words = _description(facts)
    if part or words.left_out:
        kind, source = (part, "image type") if part else (words.left_out, "description")
        near = words.codes[0] if words.codes and kind in _NEAR and words.left_out in ("", *_NEAR) else None
        near = "t1c" if near == "t1" and _contrast(facts, text) else near
        return Judgement(None, f"{kind}, by its {source}", None, kind, resembles=near)
    times = _times(facts)
    if times.planar:
        return Judgement(None, "echo-planar image, by its header", None, "echo-planar image")
    code, reason, named = _name(facts, words, times, echoes)
    if code is None and named is None and reason != SILENT:
        return Judgement(None, f"{reason}, by its repetition, echo and inversion time", None, reason)
    given = _contrast(facts, text)
    told = code is not None and (code in words.codes or reason.startswith("image type"))
    if (code or named) == "t1" and given:
        return Judgement(code and "t1c", f"{reason}, {given}", "t1c", told=told)
    kind = "" if code or named else "series that its header does not tell"
    return Judgement(code, reason, code or named, kind, told)


def image_part(facts: Mapping[str, Any]) -> str:
    """Kind of an image that its type says is no magnitude image of a sequence; empty if it is one."""
    value = facts.get("ImageType") or []
    parts = [str(part).strip().upper() for part in ([value] if isinstance(value, str) else value)]
    if str(facts.get("SyntheticData") or "").strip().upper() == "YES":  # such as `predict` writes
        return "synthetic image"
    component = str(facts.get("ComplexImageComponent") or "").upper()
    contrast = str(facts.get("AcquisitionContrast") or "").upper()
    kind = _COMPONENTS.get(component) or _GE_COMPONENTS.get(facts.get("GEComponent") or 0, "")
    if kind:
        return kind
    told = {*parts[2:], contrast, *(part for part in parts if len(part) > 2)}
    kind = next((kind for kind, types in _TYPES.items() if told & types), "")
    if not kind and any("MAP" in part for part in parts):
        kind = "map"
    weighting = numeric(facts.get("DiffusionBValue"))
    return kind or ("diffusion image" if weighting else "")


def numeric(value: Any) -> float | None:
    """A header field as one finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _description(facts: Mapping[str, Any]) -> tuple[str, Words]:
    """The series' own description, or its protocol's name where that says nothing, and what it says."""
    for key in ("SeriesDescription", "ProtocolName"):
        text = str(facts.get(key) or "")
        words = read_words(text)
        if words.left_out or words.codes or words.gradient:
            return text, words
    return str(facts.get("SeriesDescription") or ""), read_words("")


def _times(facts: Mapping[str, Any]) -> _Times:
    repetition, echo, inversion = (
        numeric(facts.get(name)) or None for name in ("RepetitionTime", "EchoTime", "InversionTime")
    )
    value = facts.get("ScanningSequence") or []
    kinds = {str(part).strip().upper() for part in ([value] if isinstance(value, str) else value)}
    pulse = str(facts.get("EchoPulseSequence") or "").upper()
    name = str(facts.get("SequenceName") or "").lower().lstrip("*_ ")
    return _Times(
        repetition,
        echo,
        inversion,
        # No spin echo repeats within a tenth of a second.
        gradient=("GR" in kinds and "SE" not in kinds) or pulse == "GRADIENT" or 0 < (repetition or 0) < 100,
        planar="EP" in kinds
        or str(facts.get("EchoPlanarPulseSequence") or "").upper() == "YES"
        or name.startswith(("ep2d", "ep_", "epfid", "epse")),
    )


def _name(facts: Mapping[str, Any], words: Words, times: _Times, echoes: int) -> tuple[str | None, str, str | None]:
    """Code and reason, and the code that words name though the times contradict it."""
    told, source = words.codes, "description"
    if not told:
        value = facts.get("ImageType") or []
        told = tuple(_FLAVOURS[part] for part in [*value, facts.get("AcquisitionContrast")] if part in _FLAVOURS)[:1]
        source = "image type"
    if words.gradient and not told:
        times = times._replace(gradient=True)
    by_times, reason = _by_times(times)
    if not told:
        return by_times, reason, None
    fitting = [code for code in told if _fits(code, times, words)]
    if len(fitting) == 1 and (len(told) == 1 or times.echo):
        return fitting[0], f"{source} says {fitting[0]}", fitting[0]
    # Words hold for one echo of two, and enhanced headers are careless with the weighting. "FLAIR" alone may be a
    # T1 FLAIR.
    dual_echo = (echoes > 1 and by_times in ("pd", "t2")) or (len(told) > 1 and by_times in (*told, None))
    t1_flair = told == ("flair",) and not words.weighting and by_times == "t1" and (times.inversion or 0) > 300
    if dual_echo or source == "image type" or t1_flair:
        return by_times, reason, by_times
    return None, f"{source} says {told[0]}, but {times.text()} do not fit it", told[0]


def _fits(code: str, times: _Times, words: Words) -> bool:
    """Whether times can be those of a sequence; generous, and true where they are unknown."""
    repetition, echo, inversion = times.repetition, times.echo, times.inversion
    if code == "t1":
        # A gradient echo later than about 12 ms, a spin echo later than about 40 ms is weighted by T2* or T2.
        if echo and echo > (12 if times.gradient else 40):
            return False
        prepared = 300 <= inversion <= 1700 if inversion else words.inversion or (echo is not None and echo < 6)
        return (not inversion or inversion <= 1700) and (not repetition or repetition <= 1600 or prepared)
    if times.gradient:
        return False
    if code == "pd":
        return not (echo and echo > 45) and not (repetition and repetition < 1500)
    if echo and echo < 50:
        return False
    if code == "t2":
        # Single-shot sequences have a repetition time of 800 ms and more. An inversion makes FLAIR or STIR of it, but
        # spectral fat saturation has an inversion time, too.
        fat_saturated = words.spectral and (inversion or 0) < 300
        return not (repetition and repetition < 800) and (not inversion or fat_saturated)
    if repetition and repetition < 3500:
        return False
    return not inversion or not repetition or _nulls_csf(repetition, inversion)


def _nulls_csf(repetition: float, inversion: float) -> bool:
    """Whether CSF has next to no signal: after inversion it passes zero at T1 ln(2 / (1 + exp(-TR / T1)))."""
    null = T1_CSF_MS * math.log(2 / (1 + math.exp(-repetition / T1_CSF_MS)))
    return NULL_RANGE[0] * null < inversion < NULL_RANGE[1] * null


def _is_flair(times: _Times) -> bool:
    """Whether times alone tell a FLAIR: CSF nulled, long echo time."""
    repetition, echo, inversion = times.repetition or 0, times.echo or 0, times.inversion or 0
    return repetition >= 3500 and echo >= 60 and inversion > 1000 and _nulls_csf(repetition, inversion)


def _by_times(times: _Times) -> tuple[str | None, str]:
    """The textbook rule of thumb on repetition, echo and inversion time; the kind of image where it is none used."""
    repetition, echo, inversion = times.repetition or 0, times.echo or 0, times.inversion or 0
    if not repetition or not echo:
        return None, SILENT
    if _is_flair(times):
        return "flair", "long inversion and repetition time"
    if times.gradient and echo > 12:
        return None, SUSCEPTIBILITY
    if 80 <= inversion <= 300 and repetition > 1500 and echo > 12:
        return None, "STIR image"
    if (repetition < 1200 and echo < 30) or (300 < inversion <= 1500 and echo < 30):
        return "t1", "short echo time with short repetition or inversion time"
    # No spin echo is as short as 6 ms: a prepared gradient echo whose inversion time the header does not give.
    if echo < 6 and repetition <= 3500 and not inversion:
        return "t1", "very short echo time of a prepared gradient echo"
    if repetition > 1800 and not inversion and not times.gradient:
        if echo >= 60:
            return "t2", "long repetition and echo time"
        return ("pd", "long repetition, short echo time") if echo <= 40 else (None, SILENT)
    return None, SILENT


def _contrast(facts: Mapping[str, Any], text: str) -> str:
    """Why contrast agent was given; empty if it was not. What the series itself says goes before the header's field."""
    said = contrast_in(text)
    if said is not None:
        return "description says contrast agent" if said else ""
    agent = str(facts.get("ContrastBolusAgent") or "")
    given = str(facts.get("ContrastGiven") or "").strip().upper() != "NO" and not says_none(agent)
    return "header names a contrast agent" if given else ""
