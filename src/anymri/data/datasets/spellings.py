"""Spellings of sequences: which one a file, folder or channel is, by the words of its name.

A name is cut into words (``AX T2 FLAIR 3mm``, ``t1_post_contrast``, ``patientT1w``, ``t1gd``), in any letter case; the
words for sequences, contrast agent and its negation decide, all others are passed over. Nothing is guessed: a name
that speaks of two sequences, or of something that is no plain image, gives no code but the reason.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from anymri.modalities import MODALITIES

__all__ = ["IMAGE_ENDINGS", "Reading", "contrast_of", "image_ending", "modality_of", "read_name", "words_of"]

#: Endings of the image files that are read, in small letters, the preferred one first.
IMAGE_ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(**words: str) -> dict[str, str]:
    """Word to what it stands for, of what stands for words."""
    return {word: meaning for meaning, text in words.items() for word in text.split()}


#: Word to the sequence it names.
_SEQUENCES = {
    **{code: code for code in MODALITIES if "_" not in code},
    **_table(
        t1="t1w t1wi t1n",
        t1c="t1ce t1cw t1wc t1k",
        t2="t2w t2wi",
        flair="t2f darkfluid",
        pd="pdw pdwi dp protondensity",  # dp: densité de protons
        mprage="bravo",
        dwi="tracew dwib1000",
        cbf="rcbf",
        cbv="rcbv",
        t1_in="inphase",
        t1_out="outphase outofphase opposedphase",
        t2_spir="t2spir",
    ),
}
#: Abbreviations with other meanings; another sequence in the name goes before them.
_WEAK = ("md", "dir", "ct")
#: Two names of one sequence, as a set, to its code.
_TOGETHER = {
    frozenset(("t2", "flair")): "flair",
    frozenset(("t1", "mprage")): "t1",
    frozenset(("t1c", "mprage")): "t1c",
    frozenset(("dwi", "adc")): "adc",
    frozenset(("t1", "t1_in")): "t1_in",
    frozenset(("t1", "t1_out")): "t1_out",
}
#: Agent, given: English, German, French, Spanish, Italian.
_CONTRAST = _set(
    "post gd gad gado gadolinium gadolinio gadovist gadavist dotarem clariscan prohance multihance magnevist omniscan "
    "ce contrast contr contrasted dtpa postcon postc contraste contrasto kontrast "
    "kontrastmittel km cm mdc enhanced enhance enh injected injection inj"
)
#: A single C directly after one of these is contrast agent.
_BEFORE_C = _set("t1 t1w t1wi mprage plus with mit post")
#: These alone, without any sequence, name the T1-weighted image after contrast agent.
_AGENTS = _set("gado gadolinium")
_NEGATION = _set(
    "pre without wo ohne sans sin senza zonder non no not none before vor avant antes unenhanced nonenhanced precon "
    "noncon neg negative minus"
)
#: Negations that stand on their own at the end of a name (``T1 wo``); ``no`` could as well be "number".
_ALONE = _set("pre without wo ohne")
#: Those that may come after the agent (``ce-none``, ``gd neg``).
_AFTER = _set("none no without neg negative minus")
#: These say it all.
_WHOLE = _set("unenhanced nonenhanced precon noncon")
#: After ``pre`` or ``post``: time of treatment, no contrast agent.
_EVENTS = _set(
    "op operative operation surgery surgical resection biopsy treatment therapy tx rt crt radiation chemo chemotherapy "
    "processed processing process proc preproc mortem ictal natal partum stroke trauma"
)
#: Words that a mask or label map has, and an image never.
_MASKS = _set(
    "mask masks seg segm segmentation segmentations label labels labelmap brainmask dseg aseg aparc probseg "
    "parcellation segmented"
)
#: Words that are usually of a mask, but might be of a study.
_PERHAPS_MASKS = _set("lesion lesions roi rois gt groundtruth truth annotation contour wmh")
#: Words of what is not a plain image of the sequence named beside them, and what that is.
_OTHERS = _table(
    **{
        "a quantitative map": "map maps t1map t2map t1rho r1 r2 r2star pdmap quantitative",
        "a tissue map or bias field": "gm wm csf pve prob probability bias biasfield",
        "a part of MP2RAGE, which is no T1-weighted image": "mp2rage uni unit1 inv1 inv2",
        "made by a program, not acquired": "synthetic synthesised synthesized",
        "derived from an image": "mip mnip minip projection subtraction subtracted",
        "no magnitude image": "phase imag imaginary",
        "a localiser": "localizer localiser scout survey topogram",
        "T2*-weighted or a field map": "t2star t2* star hemo medic swan fieldmap",
        "STIR": "stir",
        "TIRM, which can be FLAIR or STIR": "tirm",
        "a deformation": "warp deformation displacement",
        "another kind of scan": "bold fmri dti asl mra tof angio mrs dsc dce perfusion b0",
    }
)
#: Plain images of a weighting; of the others some are maps themselves.
_WEIGHTED = _set("t1 t1c t2 flair pd mprage t2_spir t1_in t1_out dir")
#: Said of ADC or CBF these are no reason to leave it out.
_OF_MAPS = ("a quantitative map", "another kind of scan")
#: T2 by a gradient echo is T2*.
_GRADIENT_ECHO = _set("gre ffe fl2d fl3d flash merge")
#: ``FLAIR to T1``: the second is the grid, not the sequence.
_RELATION = _set("to in on onto into reg registered coreg coregistered aligned 2")
#: Of these, those that are written together with sequences and mean nothing else only between two (``flair2t1``).
_BETWEEN = ("2", "in", "on")
#: Words that change nothing; needed where words are written together (``axt1``, ``3dflair``).
_NEUTRAL = _set(
    "ax axial tra trans transversal sag sagittal cor coronal 2d 3d se tse fse tfe spgr fspgr gre ffe fl2d space cube "
    "vista vibe blade brain head skull stripped stripping bet image img scan mri mr weighted w fs fatsat spair iso "
    "with avec mit con nach after new final vol volume tumor tumour manual std orig raw reg to 2 in on star spir"
)
_SPLITTABLE = (
    frozenset(_SEQUENCES) | _CONTRAST | _NEGATION | _EVENTS | _MASKS | _PERHAPS_MASKS | frozenset(_OTHERS) | _NEUTRAL
) - {"ct", "md", "sin", "con"}


class Reading(NamedTuple):
    """Sequence that a name says.

    Attributes
    ----------
    code : str or None
        Modality code; None where the name names none, or something that is not to be used as one.
    reason : str, default=""
        Why there is no code.
    mask : bool, default=False
        Whether it is the name of a mask or label map.
    plain : bool, default=False
        Whether the name consists of nothing but the sequence.
    """

    code: str | None
    reason: str = ""
    mask: bool = False
    plain: bool = False


def image_ending(name: str) -> str:
    """Ending of an image file that can be read, as it is written in the name; ``""`` for other and hidden files."""
    if name.startswith("."):
        return ""
    lower = name.lower()
    return next((name[len(name) - len(end) :] for end in IMAGE_ENDINGS if lower.endswith(end) and lower != end), "")


def modality_of(name: str) -> str | None:
    """Modality code that a name such as ``"T1ce"``, ``"T2-FLAIR"`` or ``"t1_in"`` stands for; None if unknown.

    Unlike `read_name` it passes over no word that it does not know.
    """
    reading = read_name(name.strip())
    known = reading.plain or all(word in _SPLITTABLE or word in _WEAK or word == "c" for word in words_of(name))
    return reading.code if known else None


def read_name(stem: str) -> Reading:
    """Read the name of an image file.

    Parameters
    ----------
    stem : str
        Name without its ending.

    Returns
    -------
    Reading
    """
    if stem.lower() in MODALITIES:
        return Reading(stem.lower(), plain=True)
    if re.search(r"(?i)t1w?(-c|[-_ ]?c-)(?![a-z0-9+])", stem):
        return Reading(None, "T1-C can mean with or without contrast agent")
    words = words_of(stem)
    sequences = [word for word in words if word in _SEQUENCES]
    if _MASKS.intersection(words) or (_PERHAPS_MASKS.intersection(words) and not sequences):
        return Reading(None, "a mask or label map, by its name", mask=True)
    doubtful = next((word for word in words if word in _PERHAPS_MASKS), None)
    if doubtful:
        return Reading(None, f"its name says {doubtful}, so that it may be a mask")
    code, reason = _sequence(words)
    others = [word for word in words if word in _OTHERS and not (word == "tirm" and code == "flair")]
    other = _OTHERS[others[0]] if others else None
    if code == "t2" and _GRADIENT_ECHO.intersection(words):
        other = "T2*-weighted"
    if other and (code is None or code in _WEIGHTED or other not in _OF_MAPS):
        return Reading(None, f"{other}, by its name")
    if code in ("t1", "mprage"):
        given = contrast_of(words)
        if given == "both":
            return Reading(None, "its name says with and without contrast agent")
        if not given and "c" in words[words.index(sequences[0]) :]:
            return Reading(None, "C in its name can mean contrast agent or something else")
        code = "t1c" if given == "with" else code
    plain = all(word in _SEQUENCES or word in _CONTRAST or word == "c" for word in words)
    return Reading(code, reason, plain=plain and code is not None)


def contrast_of(words: list[str]) -> str:
    """Whether words say that contrast agent was given: ``"with"``, ``"without"``, ``"both"`` or ``""``."""
    says = set()
    negated = False  # by a word directly before
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if word in _NEGATION:
            before = words[place - 1] if place else ""
            own = word in _WHOLE or (word == "pre" and following not in _EVENTS)
            if (before in _CONTRAST or before == "c") and not following and word in _AFTER:  # ce-none
                says = {"without"}
            negated = following in _CONTRAST and not (word == "pre" and following == "post")
            if own or negated or (word in _ALONE and not following):
                says.add("without")
        elif word in _CONTRAST or (word == "c" and place and words[place - 1] in _BEFORE_C):
            if not negated and not (word == "post" and following in _EVENTS):
                says.add("with")
        else:
            negated = False
    return "both" if len(says) == 2 else next(iter(says), "")


def words_of(name: str) -> list[str]:
    """Words of a name in small letters; those written together are taken apart where every part is known."""
    text = re.sub(r"(?i)\+\s*(?:c|gd|gad\w*|km|k|ce|contrast)(?![a-z0-9])|(?<![a-z0-9])c\+", " gd ", name)
    text = re.sub(r"(?i)\s-\s*c(?![a-z0-9])|\bw/o\b", " without contrast ", text)
    text = re.sub(r"(?i)mp2[-_ ]?rage", " mp2rage ", text)
    text = re.sub(r"(?i)mp[-_ ]?rage", " mprage ", text)
    text = re.sub(r"(?i)dark[-_ ]?fl(?:uid)?(?![a-z])", " darkfluid ", text)
    text = re.sub(r"(?i)t([12])[-_ ]?(?:weighted|star|\*)", lambda m: m[0].replace("-", "").replace("_", ""), text)
    text = re.sub(r"(?i)t2w?[-_ ]spir(?![a-z])", " t2spir ", text)
    text = re.sub(r"(?i)proton[-_ ]?density", " pd ", text)
    text = re.sub(r"(?i)t1[-_ ](in|out)$", r" \1phase ", text)
    text = re.sub(r"(?i)(in|out|opposed|out[-_ ]of)[-_ ]phase", lambda m: re.sub("[-_ ]", "", m[0]), text)
    text = re.sub(r"(?i)(?<![a-z0-9])space-[a-z0-9]+", " ", text)  # BIDS: the grid
    text = re.sub(r"(?i)\d+([.,]\d+)?mm", " ", text)
    words: list[str] = []
    for token in re.split(r"[^A-Za-z0-9*]+", text):
        words += _take_apart(token.lower()) or [
            word
            for part in re.split(r"(?<=[a-z])(?=[A-Z])", token)
            for word in (_take_apart(part.lower()) or [part.lower()])
        ]
    return [word for word in words if word]


@cache
def _take_apart(token: str) -> list[str]:
    """Fewest known words that a token is made of; empty if it is not."""
    if (token in _SPLITTABLE and token not in _BETWEEN) or token in _SEQUENCES:
        return [token]
    if token[-1:].isdecimal():
        parts = _take_apart(token.rstrip("0123456789"))
        if any(part in _SEQUENCES or part in _MASKS | _PERHAPS_MASKS for part in parts):
            return parts  # flair3, mask1; what remains of t12 is no sequence
    if token.startswith(("gado", "gada")):  # the agents' many names
        return ["gado"]
    ways: list[list[str]] = [[], *([] for _ in token)]
    for end in range(1, len(token) + 1):
        for start in range(end):
            if token[start:end] in _SPLITTABLE and (start == 0 or ways[start]):
                way = [*ways[start], token[start:end]]
                if not ways[end] or len(way) < len(ways[end]):
                    ways[end] = way
    parts = ways[-1]
    for place, part in enumerate(parts):
        around = {*parts[max(place - 1, 0) : place], *parts[place + 1 : place + 2]}
        if part in _BETWEEN and not (0 < place < len(parts) - 1 and around <= _SEQUENCES.keys()):
            return []  # neither t12 nor 2t1
    return parts


def _sequence(words: list[str]) -> tuple[str | None, str]:
    """The sequence that words name, or why there is none."""
    places = [place for place, word in enumerate(words) if word in _SEQUENCES]
    strong = [place for place in places if words[place] not in _WEAK]
    places = strong or places
    for first, second in pairwise(places):
        if _RELATION.intersection(words[first + 1 : second]):
            places = places[: places.index(second)]
            break
    codes = list(dict.fromkeys(_SEQUENCES[words[place]] for place in places))
    if not codes:
        return ("t1c", "") if _AGENTS.intersection(words) else (None, "its name names no sequence")
    if len(codes) == 1:
        return codes[0], ""
    if codes in (["t1", "flair"], ["t1c", "flair"]):  # T1 FLAIR is T1-weighted; "FLAIR T1" may be FLAIR on T1's grid
        between = words[places[0] + 1 : places[-1]]
        if all(word in _NEUTRAL | _CONTRAST | _NEGATION or word in _SEQUENCES for word in between):
            return codes[0], ""
    known = _TOGETHER.get(frozenset(codes))
    if known:
        return known, ""
    names = " and ".join(MODALITIES[code].long_name for code in codes)
    return None, f"its name names {names}"
