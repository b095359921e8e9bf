"""Words of series descriptions: the kind of scan or sequence that they name; several languages and vendors."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

__all__ = ["Words", "either", "fold", "read_words"]


class Words(NamedTuple):
    """Meaning of one description.

    Attributes
    ----------
    left_out : str
        Kind of scan that is never used as one of the sequences, a noun that takes an s; empty if it is none of them.
    codes : tuple of str
        Sequences it names; two where one scan gives both (PD and T2).
    gradient : bool
        Whether it names a gradient echo without saying T1.
    inversion : bool
        Whether it names a prepared T1 sequence, whose repetition time is long.
    spectral : bool
        Whether it names spectral fat saturation.
    weighting : bool
        Whether it says T1 or T2.
    """

    left_out: str
    codes: tuple[str, ...]
    gradient: bool
    inversion: bool
    spectral: bool
    weighting: bool


def either(*patterns: str) -> re.Pattern[str]:
    """One pattern that is found where any of several is."""
    return re.compile("|".join(patterns))


REFORMAT = "reformat, projection or subtraction"
SUSCEPTIBILITY = "susceptibility or T2* image"
#: Kinds of scan that are left out, in the order they are tried.
_LEFT_OUT = {
    "localiser": either(
        r"locali[sz]|lokali[sz]|localizador|scout|survey|topogram|\bscano|\bloc\b|\b3.?(pl|plane)\b|tri.?plan",
        r"smart.?brain|plan.?scan|reperage|pos ?disp|定位",
    ),
    "calibration image": either(
        r"\bcal(ib\w*)?\b|asset cal|sense.?ref|\bref.?scan|coil.?(sens|map|surv)|\bshim|pre.?scan\b",
    ),
    "picture of a report": either(
        r"screen.?s(ave|hot)|\breport\b|patient protocol|key.?image|phoenix ?zip|secondary capture|summary",
    ),
    "image of another part of the body": either(
        r"spine\b|spinal\b|cervical|thoracic|lumb(ar|o)|sacr(um|al)\b|\b[ctl]-?sp\b|\b[hbl]ws\b|rachis|columna|colonna|wirbel",
        r"^(?!.*(brain|head|kopf)).*\b(neck|hals)\b|\b(knee|pelvi[sc]|prostate?|cardiac|liver|breast|shoulder|abdom\w*)\b",
    ),
    "diffusion image": either(
        r"\b\w?dwi(?![a-z])|diffus|\bdiff\b|\bdti\b|\bdki\b|noddi|\bhardi\b|adc\b|\btracew?\b|tensor|tractogr|\bresolve\b|ivim",
        r"\bb ?=? ?[1-9]\d{2,3}\b|\bb ?=? ?0\b(?! ?map)|\b(col ?)?fa\b(?! ?=? ?\d)",
    ),
    "perfusion or functional image": either(
        r"\bperf(us\w*)?\b|\bdsc\b|\bdce\b|\basl\b|[23]dasl|pc?asl\b|\br?(el)?cb[fv]\b|\bmtt\b|\bttp\b|\btmax\b|ktrans|\bpwi\b",
        r"\bbold\b|\b\w*f ?mri\b|\b[gp]bp\b|resting|\bep2d\b|\be?epi\b|\bdyn(amic)?\b|dynasusc",
    ),
    "spectrum": either(r"spectro|\bmrsi?\b|\bcsi\b|\bsvs\b|\bpress\b|\bepsi\b"),
    SUSCEPTIBILITY: either(
        r"swip?\b|\bswi\d|\bswp\b|swan|susc|veno.?bold|\bsw[im]p|\bmag images|\bpha images|\bqsm\b|r2 ?(\*|star)",
        r"t2 ?(\*|star\b|stern)|\bha?em[oe](rr\w*|flash|sid\w*)?\b|micro.?bleed|\bmedic\b|\bmerge\b|\bm-?ffe\b",
    ),
    "angiogram": either(
        r"angio(gr\w*)?\b|\btof\b|[23]d ?tof|\bmr[av]\b|mra\b|venogr|phase contrast",
        r"\bpc-?mr|\bpc ?[23]d\b|[23]d ?pc\b|\bpca\b|\btricks\b|\btwist\b|\bflow (quant|map)|csf flow|\bcine\b|inhance",
    ),
    "map": either(r"map(s|ping|it)?\b|relaxo|\bt[12]rho\b|quantitat|\bapt\b|\bcest\b|\bmre\b|elastogr"),
    "phase image": either(r"(?<!no )\bphase\b(?! ?(wrap|enc|over|fov|dir|sens))|\bpha\b|phasen?bild"),
    "MP2RAGE image": either(r"mp2.?rage|\binv ?-?[12]\b|\buni\b|uni-?den"),
    "double or phase-sensitive inversion image": either(r"\bdir\b|double inv|\bpsir\b|phase.?sens"),
    "STIR image": either(r"\bt?stir\b|[23]dstir|\bstir"),
    REFORMAT: either(
        r"\bm(in|n)?ips?\b|\bmpr\b.*range|reformat|\breform\b|\brfmt\b|\bcurved\b|\bpjn\b|projection|\bvrt\b",
        r"\bfus(ed|ion)\b|overlay|\bsubs?\b(?![ -]?\d)|su[bs]tra[chkz]|soustr|sustrac|render",
    ),
    "fat or opposed-phase image": either(r"\bopp\b|opposed|out.?(of.)?phase|fat only|dixon.* f\b|fat.?fraction"),
    "steady-state image": either(
        r"\bciss\b|fiesta|true ?fisp|trufi|\bb-?(ffe|tfe|ssfp)\b|balanced|\bssfp\b|psif\b|cosmic",
    ),
}
_T1 = either(r"t1(?!\d)")
_T2 = either(r"t2(?!\d)")
_T1_SEQUENCE = either(
    r"mp ?-?rage|spgr\b|bravo|\btfl\b|tfl3d|vibe|thrive|\blava\b|turbo.?flash|\b[23]d.?tfe|\btfe\b|\bmpr\b|quick ?3d",
)
_FLAIR = either(r"flair|dark.?fl|fluid.?att|\bda-?fl\b|spc ?ir\b|space ?ir\b|liquor.?unterdr")
_DENSITY = either(r"\bpdw?\b|pdw\b|\bpd(?=[/+t-])|[/+]pd\b|proton.?dens|\brho\b|\bdp\b")
_GRADIENT = either(
    r"\b[23]?d?f?gre\b|\bgre|ffe\b|\bfl[23]d|flash|field.?echo|\bfe[23]?d?\b|grad(ient)?.?echo|\bgrass\b|\bmpgr\b"
)
#: Siemens calls the T1 sequence itself "t1_mpr"; beside another name, or alone, MPR is a reformat.
_MPR, _T1_MPR = either(r"\bmpr\b"), either(r"\bt1w? ?(3d )?mpr\b")
_SPECTRAL = either(r"spa?ir\b|\bfs\b|fat ?-?sat|chem ?sat")
_INVERSION = either(r"\bt?ir\b|tirm|\bseir\b")


#: Between the words of "T1PostContrast", "isoDWI" and "GdT1", but not in "mIP" or "eADC".
_CAPITALS = either(r"(?<=[a-z0-9])(?=[A-Z][a-z])", r"(?<=[a-z]{2})(?=[A-Z]{2})", r"(?<=[a-z])(?=T[12])")

_GLUED = either(r"(?<=t[12])(?=pre|post|without|wo)")


def fold(text: str) -> str:
    """Lower case without accents; words run together by capitals, or by what people use for spaces, are apart.

    Parameters
    ----------
    text : str
    """
    text = _CAPITALS.sub(" ", text)
    plain = unicodedata.normalize("NFKD", text.casefold()).replace("т1", "t1").replace("т2", "t2")  # Cyrillic t
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = _GLUED.sub(" ", unicodedata.normalize("NFC", plain))
    return " ".join(re.sub(r"[_,;:()\[\]{}<>#|\\^]|(?<=\D)\.|\.(?=\D|$)", " ", plain).split())


def read_words(text: str) -> Words:
    """Read a description.

    Parameters
    ----------
    text : str
        As it stands in the header.
    """
    text = fold(text)
    t1, t2, flair = (pattern.search(text) is not None for pattern in (_T1, _T2, _FLAIR))
    t1_sequence, gradient = _T1_SEQUENCE.search(text) is not None, _GRADIENT.search(text) is not None
    left_out = next((kind for kind, pattern in _LEFT_OUT.items() if pattern.search(text)), "")
    if not left_out and _MPR.search(text) and not _T1_MPR.search(text):
        left_out = REFORMAT
    if not left_out and gradient and t2 and not t1:
        left_out = SUSCEPTIBILITY
    named = {"pd": _DENSITY.search(text) is not None, "t2": t2, "t1": t1 or (t1_sequence and not t2)}
    codes = tuple(code for code, found in named.items() if found)
    if flair:
        codes = ("t1",) if t1 and not t2 else ("flair",)
    elif "tirm" in text and not t1:
        codes = ()  # an inversion recovery of any inversion time: alone it names no sequence
    inversion = t1_sequence or (flair and t1) or _INVERSION.search(text) is not None
    return Words(left_out, codes, gradient and not t1, inversion, _SPECTRAL.search(text) is not None, t1 or t2)
