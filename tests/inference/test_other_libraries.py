"""Images of MONAI and TorchIO are taken, and a result becomes one of theirs, on the same grid."""

from __future__ import annotations

import sys
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from anymri.data.geometry import Geometry
from anymri.inference.other_libraries import plain_images
from anymri.inference.output.result import Result, View
from anymri.types import GLIOMA, UserError

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


class Picture:
    """What TorchIO's images have: ``data`` (1, I, J, K), ``affine`` and ``type``."""

    def __init__(self, tensor, affine, type="intensity"):
        self.data, self.affine, self.type = tensor, affine, type


@pytest.fixture
def values():
    return np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)


@pytest.fixture
def result(values):
    view = View(
        images={"t1": values}, label=(values > 0.5).astype(np.uint8), completed={"t2": values}, probability={},
        entropy=values, geometry=Geometry(AFFINE, values.shape[::-1]),
    )  # fmt: skip
    return Result(
        name="J. Doe", volumes_ml={"whole_tumor": 1.0}, unknown={}, available=("t1",), missing=("t2",),
        label_values=dict(GLIOMA.labels), trust={"measured": None}, warnings=(), provenance={}, spec=GLIOMA, view=view,
    )  # fmt: skip


def test_tensors_with_an_affine_become_images_on_their_grid(values):
    tensor = torch.from_numpy(values)
    given = {"t1": MetaTensor(tensor[None], affine=torch.from_numpy(AFFINE)), "label": MetaTensor(tensor), "age": 7}
    taken = plain_images(given, GLIOMA)
    assert list(taken) == ["t1"]
    assert np.array_equal(taken["t1"].affine, AFFINE)
    assert np.array_equal(np.asarray(taken["t1"].dataobj), values)
    subject = {"flair": Picture(tensor[None], AFFINE), "t2": Picture(tensor[None], AFFINE, "label")}
    taken = plain_images(subject, GLIOMA)
    assert list(taken) == ["flair"]
    assert np.array_equal(np.asarray(taken["flair"].dataobj), values)


def test_what_is_no_tensor_stays_as_it_is(values):
    image = nib.Nifti1Image(values, AFFINE)
    given = {"t1": "t1.nii.gz", "unknown": image}
    assert plain_images(given, GLIOMA) == given


def test_several_channels_are_refused(values):
    tensor = MetaTensor(torch.from_numpy(np.stack([values, values])))
    with pytest.raises(UserError, match=r"t1: is a tensor of shape \(2, 4, 5, 6\); give one sequence"):
        plain_images({"t1": tensor}, GLIOMA)


def test_a_result_becomes_a_monai_dictionary_and_back(result):
    tensors = result.to_monai()
    assert list(tensors) == ["t1", "t2_synthetic", "segmentation", "uncertainty"]
    assert [key for key, tensor in tensors.items() if tensor.meta["synthetic"]] == ["t2_synthetic"]
    back = plain_images(tensors, GLIOMA)
    assert list(back) == ["t1"]
    assert np.array_equal(back["t1"].affine, result.segmentation.affine)
    assert np.array_equal(tensors["segmentation"][0].numpy(), np.asarray(result.segmentation.dataobj))


def test_a_result_becomes_a_torchio_subject(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchio", None)
    with pytest.raises(UserError, match="pip install torchio"):
        result.to_torchio()
    stand_in = ModuleType("torchio")
    stand_in.ScalarImage = lambda tensor, affine: Picture(tensor, affine)
    stand_in.LabelMap = lambda tensor, affine: Picture(tensor, affine, "label")
    stand_in.Subject = dict
    monkeypatch.setitem(sys.modules, "torchio", stand_in)
    subject = result.to_torchio()
    assert [key for key, image in subject.items() if image.type == "label"] == ["segmentation"]
    assert subject["t1"].data.shape == (1, 6, 5, 4)
    assert np.array_equal(subject["t1"].affine, result.segmentation.affine)


def test_a_notebook_shows_a_result_without_its_name(result):
    shown = result._repr_html_()
    assert shown.count("<img") == 2
    assert "SYNTHETIC T2" in shown
    assert "Doe" not in shown
    assert "http" not in shown
    figure = result.plot(index=1)
    assert [axis.get_title() for axis in figure.axes] == ["T1", "SYNTHETIC T2"]
