"""Images of other libraries: MONAI dictionaries and TorchIO subjects, taken by prediction and made of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from anymri.data.nifti import to_nibabel
from anymri.types import DataSpec, UserError

if TYPE_CHECKING:
    from anymri.inference.output.result import Result

__all__ = ["plain_images", "to_monai", "to_torchio"]


def plain_images(images: Mapping[str, Any], spec: DataSpec) -> dict[str, Any]:
    """Images by modality code as prediction reads them; tensors with an affine become nibabel images.

    Parameters
    ----------
    images : mapping of str to image
        Paths, nibabel images and `Volume` stay. A MONAI ``MetaTensor`` or an image of TorchIO (what has ``affine``
        and values of shape (1, I, J, K) or (I, J, K)) are taken with their affine (RAS+, mm). Of a TorchIO ``Subject``,
        or a dictionary with such images, entries that are no sequence of the model (label maps, names) are left out.
    spec : DataSpec

    Returns
    -------
    dict of str to image

    Raises
    ------
    UserError
        If an image has several channels, or values of another rank.
    """
    foreign = any(_is_foreign(image) for image in images.values())
    kept = {
        code: image for code, image in images.items() if not foreign or (code in spec.modalities and _is_image(image))
    }
    return {code: _nibabel(code, image) if _is_foreign(image) else image for code, image in kept.items()}


def _is_foreign(image: Any) -> bool:
    """Whether it is a tensor or image of another library."""
    return hasattr(image, "affine") and not hasattr(image, "dataobj") and not hasattr(image, "geometry")


def _is_image(image: Any) -> bool:
    return image is not None and getattr(image, "type", "intensity") != "label"


def _nibabel(code: str, image: Any) -> nib.Nifti1Image:
    """Nibabel image of a tensor with an affine, or of an object whose ``data`` is a tensor."""
    values = image if hasattr(image, "detach") else image.data
    array = np.asarray(values.detach().cpu())
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3:
        raise UserError(f"{code}: is a tensor of shape {tuple(array.shape)}; give one sequence as (1, I, J, K)")
    affine = image.affine
    matrix = np.asarray(affine.detach().cpu() if hasattr(affine, "detach") else affine, dtype=np.float64)
    exact = array.dtype.kind in "iuf" and array.dtype.itemsize <= 4
    return nib.Nifti1Image(array if exact else array.astype(np.float32), matrix)


def _arrays(result: Result) -> dict[str, tuple[Any, bool]]:
    """Nibabel image by key, and whether it is a label map; completed sequences are named synthetic."""
    found = {code: (to_nibabel(array, result.view.geometry), False) for code, array in result.view.images.items()}
    found |= {f"{code}_synthetic": (image, False) for code, image in result.completed.items()}
    if result.segmentation is not None:
        found["segmentation"] = (result.segmentation, True)
        found["uncertainty"] = (result.uncertainty, False)
    return found


def to_monai(result: Result) -> dict[str, Any]:
    """A result as a MONAI dictionary.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to monai.data.MetaTensor, shape (1, I, J, K)
        The sequences given by their codes, ``<code>_synthetic``, ``segmentation`` (values of `Result.label_values`)
        and ``uncertainty``, on the grid of the input with its affine (RAS+); ``meta["synthetic"]`` of each.
    """
    import torch
    from monai.data import MetaTensor

    return {
        key: MetaTensor(
            torch.from_numpy(np.ascontiguousarray(image.dataobj))[None],
            affine=torch.from_numpy(image.affine),
            meta={"synthetic": key.endswith("_synthetic")},
        )
        for key, (image, _) in _arrays(result).items()
    }


def to_torchio(result: Result) -> Any:
    """A result as a TorchIO subject; keys as in `to_monai`.

    Parameters
    ----------
    result : Result

    Returns
    -------
    torchio.Subject

    Raises
    ------
    UserError
        If TorchIO is not installed.
    """
    try:
        import torchio
    except ImportError:
        raise UserError("torchio is not installed; pip install torchio") from None
    import torch

    return torchio.Subject(
        **{
            key: (torchio.LabelMap if is_label else torchio.ScalarImage)(
                tensor=torch.from_numpy(np.ascontiguousarray(image.dataobj))[None], affine=image.affine
            )
            for key, (image, is_label) in _arrays(result).items()
        }
    )
