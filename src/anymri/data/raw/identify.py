"""Sequence of an image by how bright CSF and grey matter are, for series whose header says nothing."""

from __future__ import annotations

from anymri.data.nifti import Volume
from anymri.data.raw import brain, registration
from anymri.data.raw.bias import correct_bias
from anymri.data.raw.grids import upright_grid
from anymri.data.raw.study import BOX_MM

__all__ = ["identify_contrast", "judge_tissues"]

#: Relative difference of brightness below which two tissues count as equal.
EQUAL = 0.03
#: How many times as bright as white matter CSF or grey matter are in T2 but not in PD. By the signal equation grey is
#: 1.4 to 1.6 times as bright in T2 (TE 100 ms) and below 1.2 in PD (TE 20 ms), at 1.5 and 3 T.
T2_CSF, T2_GREY = 1.4, 1.2


def identify_contrast(volume: Volume) -> tuple[str | None, str]:
    """Modality of a head image by its tissues.

    Parameters
    ----------
    volume : Volume
        Raw image of a head.

    Returns
    -------
    str or None
        ``"t1"``, ``"t2"``, ``"flair"`` or ``"pd"``; None where the tissues fit none.
    str
        Reason, with the measured brightness.

    Notes
    -----
    Contrast agent cannot be told from tissue means, so a contrast-enhanced T1 counts as t1.
    """
    array, _ = correct_bias(volume.array, volume.geometry)
    mni, _ = registration.register_template(registration.working(array, volume.geometry))
    frame = upright_grid(*BOX_MM, brain.STEP_MM)
    found = brain.estimate_brain(array, volume.geometry, mni, frame, registration.rigid_part(mni))
    return judge_tissues(found.tissue_means)


def judge_tissues(means: dict[str, float]) -> tuple[str | None, str]:
    """Modality by the mean brightness of ``csf``, ``grey`` and ``white``.

    Parameters
    ----------
    means : dict of str to float
    """
    white = max(means["white"], 1e-6)
    csf, grey = means["csf"] / white, means["grey"] / white
    text = f"image: CSF {csf:.2f} and grey matter {grey:.2f} times as bright as white matter"
    if csf < 1 - EQUAL and grey < 1 - EQUAL:
        return "t1", text
    if csf < 1 - EQUAL and grey > 1 + EQUAL:
        return "flair", text
    if csf > 1 + EQUAL and grey > 1 + EQUAL:
        # In PD the three are close; in T2 one stands out. Thick slices dim the little CSF that a slab may hold.
        return ("t2" if csf > T2_CSF or grey > T2_GREY else "pd"), text
    return None, f"{text}, which fits no sequence"
