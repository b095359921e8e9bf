"""Study in notebooks: grid, and a middle slice of every sequence, without any name."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from anymri.data.study import Study

__all__ = ["study_html"]

#: z-scores shown black and white.
LIMITS = (-3.0, 3.0)


def study_html(study: Study) -> str:
    """What Jupyter shows of a study.

    Parameters
    ----------
    study : Study

    Returns
    -------
    str
        Self-contained, in the colours of the notebook. Study and files are not named.
    """
    brain = study.brain(study.present)
    filled = np.flatnonzero(brain.any(axis=(1, 2)))
    index = int((filled[0] + filled[-1]) // 2) if filled.size else brain.shape[0] // 2
    spacing = " x ".join(f"{size:g}" for size in study.spacing_mm)
    shape = " x ".join(str(size) for size in brain.shape)
    figures = [
        f"<figure style='margin:0 6px 6px 0;display:inline-block'><img alt='sequence {channel}, axial slice {index}' "
        f"src='data:image/webp;base64,{_webp(study, channel, index)}' style='display:block;height:160px'>"
        f"<figcaption style='font-size:.85em'>sequence {channel}</figcaption></figure>"
        for channel in np.flatnonzero(study.present).tolist()
    ]
    return (
        f"<div><p>Study: {len(figures)} of {len(study.present)} sequences, {shape} voxels (D, H, W) of {spacing} mm"
        f"{'' if study.label is None else ', with a label map'}.</p><div>{''.join(figures)}</div></div>"
    )


def _webp(study: Study, channel: int, index: int) -> str:
    """Axial slice, seen from the feet, the front upwards."""
    values = np.nan_to_num(np.asarray(study.image[channel][index], np.float32))
    low, high = LIMITS
    grey = np.where(values != 0, np.clip((values - low) / (high - low), 0, 1), 0)[::-1, ::-1]
    height, width = (size * step for size, step in zip(grey.shape, study.spacing_mm[1:], strict=True))
    picture = Image.fromarray((grey * 255).astype(np.uint8)).resize((max(1, round(160 * width / height)), 160))
    buffer = BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return b64encode(buffer.getvalue()).decode("ascii")
