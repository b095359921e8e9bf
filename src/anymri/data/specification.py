"""Specification of a cohort, kept beside its table: ``subjects.csv`` and ``subjects.dataset.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri.data.datasets import get_dataset
from anymri.files import make_folder, replace_file
from anymri.modalities import MODALITIES
from anymri.settings_file import read_yaml
from anymri.types import GLIOMA, DataSpec, Subject, UserError

__all__ = ["dataset_spec", "read_spec", "spec_path", "write_spec"]


def dataset_spec(root: Path | str, dataset: str, subjects: Sequence[Subject] = ()) -> DataSpec:
    """Modalities, labels and regions of a data set.

    Parameters
    ----------
    root : path-like
        Its folder, which may describe itself (``dataset.yaml``, nnU-Net's ``dataset.json``).
    dataset : str
        A key of `anymri.data.datasets.DATASETS`.
    subjects : sequence of Subject
        What was found in it; their modalities count where nothing else says which there are.

    Returns
    -------
    DataSpec

    Raises
    ------
    UserError
        If the folder's description of itself is wrong.
    """
    info = get_dataset(dataset)
    own = info.read_spec(Path(root)) if info.read_spec else None
    if own is not None:
        return own
    found = [code for code in MODALITIES if any(code in subject.images for subject in subjects)]
    if info.spec == GLIOMA and not set(found) <= set(GLIOMA.modalities):
        return DataSpec(tuple(found), dict(GLIOMA.labels), dict(GLIOMA.regions))
    return info.spec


def spec_path(table: Path | str) -> Path:
    """Where the specification of a table of subjects lies: ``subjects.dataset.yaml`` for ``subjects.csv``."""
    table = Path(table)
    return table.with_name(f"{table.stem}.dataset.yaml")


def write_spec(table: Path | str, spec: DataSpec, dataset: str) -> Path:
    """Write the specification beside a table of subjects.

    Parameters
    ----------
    table : path-like
        ``subjects.csv``.
    spec : DataSpec
    dataset : str
        Name of the layout, for people.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    import yaml

    path = spec_path(table)
    make_folder(path.parent)
    with replace_file(path) as handle:
        text = yaml.safe_dump({"dataset": dataset, **spec.to_dict()}, sort_keys=False, default_flow_style=None)
        handle.write(text.encode())
    return path


def read_spec(table: Path | str) -> DataSpec:
    """Specification of a table of subjects; that of glioma where there is none beside it.

    Raises
    ------
    UserError
        If the file is not of the form that `write_spec` gives it.
    """
    path = spec_path(table)
    if not path.exists():
        return GLIOMA
    try:
        values = read_yaml(path)
        values.pop("dataset", None)
        regions = {name: tuple(labels) for name, labels in values.pop("regions").items()}
        labels = {str(name): int(value) for name, value in values.pop("labels").items()}
        ignore = values.get("ignore")
        return DataSpec(tuple(values["modalities"]), labels, regions, None if ignore is None else int(ignore))
    except (UserError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0] or type(error).__name__
        raise UserError(f"{path}: is not a specification ({reason}); make it anew with `anymri index`") from None
