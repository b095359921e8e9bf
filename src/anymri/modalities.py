"""Registry of MRI sequences and contrasts ("modalities")."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODALITIES", "Modality", "get_modality"]


@dataclass(frozen=True)
class Modality:
    """One MRI sequence or contrast.

    Parameters
    ----------
    code : str
        Short name used for files, channels and options, e.g. ``"t1c"``.
    long_name : str
        Name shown to people.
    bids_suffix : str
        Suffix of the file name in a BIDS data set; ``""`` where BIDS defines none.
    positive : bool, default=True
        Whether physical values cannot be negative (CT numbers can).
    """

    code: str
    long_name: str
    bids_suffix: str
    positive: bool = True

    @property
    def short_name(self) -> str:
        """Name inside a sentence or a list, e.g. ``"T1c"``."""
        return {"t1c": "T1c", "mprage": "MP-RAGE", "tmax": "Tmax"}.get(self.code, self.code.upper().replace("_", " "))


#: Every modality by its code. Other spellings (``t1ce``, ``T1w`` ...) belong to the data set adapters.
MODALITIES: dict[str, Modality] = {
    modality.code: modality
    for modality in (
        Modality("t1", "T1-weighted", "T1w"),
        Modality("t1c", "T1-weighted, contrast-enhanced", "ce-gadolinium_T1w"),
        Modality("t2", "T2-weighted", "T2w"),
        Modality("flair", "FLAIR", "FLAIR"),
        Modality("pd", "Proton-density-weighted", "PDw"),
        Modality("mprage", "MP-RAGE", "T1w"),
        Modality("dir", "Double inversion recovery", "DIR"),
        Modality("dwi", "Diffusion-weighted (trace)", "dwi"),
        Modality("adc", "Apparent diffusion coefficient", "ADC"),
        Modality("t1_in", "T1 dual echo, in phase", "T1w"),
        Modality("t1_out", "T1 dual echo, out of phase", "T1w"),
        Modality("t2_spir", "T2 SPIR (fat-suppressed)", "T2w"),
        Modality("swi", "Susceptibility-weighted", "swi"),
        Modality("cbf", "Cerebral blood flow", "cbf"),
        Modality("cbv", "Cerebral blood volume", "cbv"),
        Modality("ttp", "Time to peak", ""),
        Modality("tmax", "Time to maximum of the residue function", ""),
        Modality("md", "Mean diffusivity", "MD"),
        Modality("ct", "Computed tomography", "ct", positive=False),
    )
}


def get_modality(code: str) -> Modality:
    """Look a modality up by its code.

    Parameters
    ----------
    code : str
        A key of `MODALITIES`.

    Returns
    -------
    Modality

    Raises
    ------
    KeyError
        If the code is not registered; the message lists the known codes.
    """
    try:
        return MODALITIES[code]
    except KeyError:
        raise KeyError(f"unknown modality {code!r}; known: {', '.join(MODALITIES)}") from None
