"""Raw folder of nnU-Net v2: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz`` and ``dataset.json``.

``channel_names`` of ``dataset.json`` (``{"0": "T1", "1": "FLAIR"}``) say which modality a number is, ``labels`` what
the values mean: a value each, or, for region-based training, a list of values. A case may lack channels, which nnU-Net
itself does not allow. Source: github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md and region_based_training.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.datasets.folder import index_patterns
from anymri.data.datasets.info import DatasetInfo
from anymri.data.datasets.layout import check_root, check_subject_id, make_arrays, write_files
from anymri.data.datasets.spellings import modality_of
from anymri.files import inside, make_folder, replace_file
from anymri.modalities import MODALITIES
from anymri.records import read_json
from anymri.types import GLIOMA, DataSpec, Subject, UserError

__all__ = ["INFOS", "channel_codes", "index_nnunet", "nnunet_folder", "read_nnunet_spec", "write_nnunet"]


def index_nnunet(root: Path | str) -> list[Subject]:
    """Find the cases of one nnU-Net data set; opens no image.

    Parameters
    ----------
    root : path-like
        ``Dataset001_Name``, with ``dataset.json``, or a folder such as ``nnUNet_raw`` that holds one of them.

    Returns
    -------
    list of Subject
        Sorted by id; cases of ``imagesTs`` have a label map only if there is ``labelsTs``.

    Raises
    ------
    UserError
        If ``dataset.json`` is missing or wrong, there is no case, or one is in both ``imagesTr`` and ``imagesTs``.
    """
    root = nnunet_folder(root)
    values = _read_json(root)
    codes, ending = _channels(root, values), _ending(root, values)
    found: dict[str, Subject] = {}
    for part in ("Tr", "Ts"):
        patterns = {code: f"images{part}/{{subject}}_{number:04d}{ending}" for number, code in codes.items()}
        labels = {path.name[: -len(ending)]: path for path in root.glob(f"labels{part}/*{ending}")}
        for subject in index_patterns(root, patterns):
            if subject.subject_id in found:
                raise UserError(f"{root}: case {subject.subject_id!r} is in imagesTr and in imagesTs; rename one")
            found[subject.subject_id] = replace(subject, label=labels.pop(subject.subject_id, None))
        left = sorted(name for name in labels if not name.startswith("."))
        if left:
            raise UserError(f"{labels[left[0]]}: a label map without an image; add images{part}/{left[0]}_0000{ending}")
    if not found:
        raise UserError(f"{root}: no subject found; expected folders imagesTr and labelsTr with CASE_0000{ending}")
    return [found[name] for name in sorted(found)]


def nnunet_folder(root: Path | str) -> Path:
    """Folder of a data set: the one given, or the only one in it that has a ``dataset.json``.

    Raises
    ------
    UserError
        If there is no such folder, or several data sets lie in it.
    """
    root = check_root(root)
    if (root / "dataset.json").is_file():
        return root
    found = sorted(path.parent for path in root.glob("*/dataset.json"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{root}: holds {len(found)} data sets ({names}); give the folder of one")
    return found[0] if found else root


def _read_json(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        raise UserError(f"{root}: no subject found; expected folders imagesTr, labelsTr and a dataset.json")
    values = read_json(path, "write it anew")
    if not isinstance(values, dict) or not isinstance(values.get("channel_names", values.get("modality")), dict):
        raise UserError(f'{path}: has no channel_names; write e.g. "channel_names": {{"0": "T1", "1": "FLAIR"}}')
    return values


def _ending(root: Path, values: Mapping[str, Any]) -> str:
    ending = str(values.get("file_ending", ".nii.gz"))
    inside(root, f"case{ending}")  # it becomes part of the names of files that are read and written
    return ending


def channel_codes(root: Path) -> dict[int, str]:
    """Channel number to modality code, from the ``dataset.json`` in a folder.

    Raises
    ------
    UserError
        If the file is missing or names an unknown modality.
    """
    return _channels(root, _read_json(root))


def _channels(root: Path, values: Mapping[str, Any]) -> dict[int, str]:
    """Channel number to modality code."""
    codes: dict[int, str] = {}
    for number, name in values.get("channel_names", values.get("modality")).items():
        code = modality_of(str(name))
        if code is None or not str(number).isdigit() or code in codes.values():
            problem = f"channel {number} {name!r} is no known modality, or named twice"
            raise UserError(f"{root / 'dataset.json'}: {problem}; known: {', '.join(MODALITIES)}")
        codes[int(number)] = code
    return dict(sorted(codes.items()))


def read_nnunet_spec(root: Path | str) -> DataSpec:
    """Specification in ``dataset.json``.

    Parameters
    ----------
    root : path-like

    Returns
    -------
    DataSpec
        Channels in their order. Labels that are lists of values become regions of labels named ``label_1``, ...; a
        label of one value is a region, too, but ``ncr``, ``edema`` and ``et`` give the regions of glioma. The value of
        an ``ignore`` label is `DataSpec.ignore`.

    Raises
    ------
    UserError
        If the file is missing or not of nnU-Net's form.
    """
    root = nnunet_folder(root)
    values = _read_json(root)
    named = values.get("labels", {})
    try:
        groups = {
            str(name): tuple(int(v) for v in (value if isinstance(value, list) else [value]))
            for name, value in named.items()
            if name not in ("background", "ignore")
        }
        ignore = None if named.get("ignore") is None else int(named["ignore"])
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f'{root / "dataset.json"}: labels is not of the form {{"background": 0, "lesion": 1}}'
        ) from None
    names = {group[0]: name for name, group in groups.items() if len(group) == 1}
    every = sorted({value for group in groups.values() for value in group})
    labels = {names.get(value, f"label_{value}"): value for value in every}
    of_value = {value: name for name, value in labels.items()}
    regions = {name: tuple(of_value[value] for value in group) for name, group in groups.items()}
    if labels == GLIOMA.labels and set(regions) == set(labels):
        regions = GLIOMA.regions
    try:
        return DataSpec(tuple(_channels(root, values).values()), labels, regions, ignore)
    except ValueError as error:
        raise UserError(f"{root / 'dataset.json'}: {error}; correct its labels") from None


def write_nnunet(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one case and, if there is none yet, a ``dataset.json`` that fits it.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"CASE_001"``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        Written as it is.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        `root`; cases share its folders.

    Raises
    ------
    ValueError
        If a modality is not in the ``dataset.json`` that is there, or a value cannot be stored.
    """
    check_subject_id(subject_id)
    root = make_folder(root)
    if not (root / "dataset.json").is_file():
        spec = GLIOMA if set(volumes) <= set(GLIOMA.modalities) else DataSpec(tuple(volumes), {}, {})
        _write_json(root, spec, label)
    values = _read_json(root)
    numbers = {code: number for number, code in _channels(root, values).items()}
    arrays = make_arrays(volumes, label, numbers, {})
    ending = _ending(root, values)
    files = {f"imagesTr/{subject_id}_{number:04d}{ending}": arrays[c] for c, number in numbers.items() if c in arrays}
    if "label" in arrays:
        files[f"labelsTr/{subject_id}{ending}"] = arrays["label"]
    write_files(root, files, spacing_mm)
    return root


def _write_json(root: Path, spec: DataSpec, label: np.ndarray | None) -> None:
    found = [] if label is None else [int(value) for value in np.unique(label) if value]
    names = {value: name for name, value in spec.labels.items()}
    labels = dict(spec.labels) or {names.get(value, f"label_{value}"): value for value in found}
    values = {
        "channel_names": {str(number): code for number, code in enumerate(spec.modalities)},
        "labels": {"background": 0, **labels},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
    with replace_file(root / "dataset.json") as handle:
        handle.write((json.dumps(values, indent=1) + "\n").encode())


INFOS = (
    DatasetInfo(
        name="nnunet",
        title="raw folder of nnU-Net v2",
        spec=GLIOMA,
        index=index_nnunet,
        write=write_nnunet,
        citation="Isensee et al., nnU-Net, Nature Methods 18, 2021",
        licence="yours",
        where="your disk",
        read_spec=read_nnunet_spec,
        traps=("nnU-Net has no missing channels: a channel of zeros is not read as missing, leave the file out",),
    ),
)
