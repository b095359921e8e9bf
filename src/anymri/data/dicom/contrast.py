"""Contrast agent: whether it was given, by the words of a header, in any order and several languages."""

from __future__ import annotations

import re

from anymri.data.dicom.words import either, fold

__all__ = ["contrast_in", "says_none"]

#: What only looks like a word of contrast: a place, before or after surgery or treatment, a plan of both.
_NEITHER = either(
    r"\bposterior\w*",
    r"\bpost\w* ?fossa\w*",
    r"\bpost[- ]?(op|surg|resect|treat|stroke|rad|rt\b|xrt|chemo|biops|traum|partum|proc)\w*",
    r"\bpre[- ]?(op|surg|treat|sat|proc|rad|rt\b|chemo)\w*",
    r"\bw(ith)? ?(/|and|&|\+)? ?(w/?o|without)\b( ?contrast\w*)?",
    r"\b(high|low|tissue|image|opt\w*|good|best|max\w*)[ -]contrast\b",
)
_AGENT = (
    r"((mezzo|medio|medium|meio|produit|agente?)( di?e?)? contrast\w*|contrast\w*|kontra[sz]?[ct]\w*|контраст\w*"
    r"|con|cont|km|ce|gd\w*|gad\w*|mdc|pdc|cm|kl|c|civ|inj\w*|iniez\w*|inyec\w*|enhanc\w*)(?!\w)"
)
_WITHOUT = (
    r"(w/ ?o|\bw ?o(?!\w)|\bwo|\bo(?= ?km)|(?<=\s)-(?=\w)|without|\bpre|\bbefore|prior to|\bnon?|\bnot|\bohne|\bvor"
    r"|\bkeine?|\bsans|\bavant|\bsin|\bantes|\bsem|\bs/|\bsenza|\bprima|\bzonder|\bvoor|\buten|\butan|\buden|\bbez|\bprzed|\bfore?"
    r"|\bбез|\bдо)"
)
_WITH = r"\b(with|w|mit|med|met|nach|na|con|com|avec|z|ze|po|after|apres|apos|despues|dopo|pos|etter|efter|с|после)"
_FILLER = r"[ /-]*((de|del|di|dell|el|le|la|l|d|iv|i\.?v\.?)[ '’]+)*"
_NEGATIVE = either(
    rf"{_WITHOUT}{_FILLER}{_AGENT}",
    r"\b(contrast\w*|kontra\w+|km)[ =-]*(none|no|non|free|nein|0|false|oncesi)\b",
    r"\bpre\b|\bprecon\w*|\bpre-?gad?d?\b|w/ ?o\b|\bwo\b|\bwithout\b|\b(ohne|sans|senza|zonder|avant)\b",
    r"\bnativ\w*|unenhanced|\bnce?\b|\bplain\b|\bblan[ck]o\b|kontrasts[iı]z|\bc ?-(?!\w)",
    r"平扫|平掃|单纯|単純|비조영|조영 ?전|χωρις σκιαγραφ\w*|造影前|造影なし|非造影",
)
_POSITIVE = either(
    rf"\+ ?{_AGENT}|\b(c|gd|gad|km|ce|kl) ?\+|\bc/ ?(c|contraste|gd)\b",
    rf"{_WITH}{_FILLER}{_AGENT}",
    r"\bgad(o|avist|\b)|\bgd(?![a-ce-z])|gd\b|dotarem|magnevist|omniscan|(pro|multi) ?hance|clariscan|vueway|elucirem",
    r"\bm?km\b|\bmdc\b|\bcontrast|kontra[sz]?[ct]|\bce\b|\benhanc|\bpost\b|\bpost-?(c|con|contr\w*|g|gd\w*|gad\w*)\b",
    r"\bt1w?[ -]?(c|ce|km|post)(?!\w)|\bt1w?\+(?!\w)|mprage[ -]?(c|ce)\b|\bt1w/ ?c",
    r"\binj(ec\w*|ek\w*)?\b|\biniezion|\binyecc",
    r"增强|增強|造影|조영|контраст|σκιαγραφ",
)
_NONE = re.compile(
    r"(n|no|non|none|nil|null|nan|n/?a|not?\b.*|false|nein|nej|nessuno|ninguno|aucun|brak|unknown|undefined"
    r"|0*([.,]0+)? ?(ml|cc)?)"
)


def contrast_in(text: str) -> bool | None:
    """Whether a description says that a contrast agent was given; None where it says nothing.

    Parameters
    ----------
    text : str
        As it stands in the header; words may come in any order.
    """
    text = _NEITHER.sub(" ", fold(text))
    rest = _NEGATIVE.sub(" ", text)
    if _POSITIVE.search(rest):
        return True
    return False if rest != text else None


def says_none(agent: str) -> bool:
    """Whether the header's field for the agent says, in words or figures, that there was none.

    Parameters
    ----------
    agent : str
        Value of ``ContrastBolusAgent``.
    """
    text = fold(agent).strip(" .-/*?'\"")
    return _NONE.fullmatch(text) is not None or contrast_in(agent) is False
