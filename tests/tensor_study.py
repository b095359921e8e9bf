"""Prediction of a study that is given as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from anymri.data.geometry import Geometry
from anymri.data.study import Study
from anymri.inference.sliding_window import WindowSettings, predict_subject
from anymri.inference.subject import SubjectPrediction


def predict_tensors(
    method: Any,
    image: Tensor,
    statistics: Tensor,
    boxes: Tensor,
    subsets: list[tuple[str, ...]],
    *,
    outputs: tuple[str, ...] | None = None,
    subject_id: str = "",
    **settings: Any,
) -> dict[tuple[str, ...], SubjectPrediction]:
    """`predict_subject` with the fields of `WindowSettings` as keywords."""
    depth, height, width = image.shape[1:]
    present: Any = ~image.isnan().flatten(1).all(1)
    arrays: Any = image, statistics, boxes
    study = Study(
        image=arrays[0], present=present, label=None, statistics=arrays[1], boxes=arrays[2],
        middles=np.zeros((len(image), 3)), spacing_mm=(1, 1, 1),
        geometry=Geometry([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], (width, height, depth)),
        subject_id=subject_id,
    )  # fmt: skip
    return predict_subject(method, study, subsets, WindowSettings(**settings), outputs=outputs)
