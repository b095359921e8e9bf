"""A result holds its arrays once; nibabel images are made when they are asked for."""

from __future__ import annotations

import numpy as np

from anymri.data.geometry import Geometry
from anymri.inference.output.result import Result, View
from anymri.types import GLIOMA


def test_images_are_views_of_the_arrays_and_are_not_kept():
    values = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    label = (values > 0.5).astype(np.uint8)
    view = View(
        images={"t1": values},
        label=label,
        completed={"t2": values},
        probability={"whole_tumor": values},
        entropy=values,
        geometry=Geometry(np.diag([-1.0, -1, 1, 1]), (5, 4, 3)),
    )
    result = Result(
        name="", volumes_ml={}, unknown={}, available=("t1",), missing=(), label_values=dict(GLIOMA.labels), trust={},
        warnings=(), provenance={}, spec=GLIOMA, view=view,
    )  # fmt: skip
    fields = set(vars(result))
    for image in (result.completed["t2"], result.probability["whole_tumor"], result.uncertainty):
        assert np.shares_memory(image.dataobj, values)
    assert np.array_equal(np.asarray(result.segmentation.dataobj).T[:, ::-1, ::-1], label)
    assert set(vars(result)) == fields
