"""Vectors and graphs of subjects: named arrays in a folder ``tables`` of the cache, one file per subject.

Clinical values, radiomics and connectivity graphs have no voxels, and their sizes differ from subject to subject. They
are a store of their own, which needs no image; the format is fixed in ``docs/reference/formats.md``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, NonNegativeInt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from anymri.data.datasets.layout import check_subject_id
from anymri.files import make_folder, replace_file
from anymri.records import RECORD, Digest, check_record, parse_json, read_record, seal, write_record
from anymri.types import Graph, UserError

__all__ = ["DTYPES", "ArrayKind", "Tables", "graph_kinds"]

FORMAT_VERSION = 2
REMEDY = "write the tables anew"
#: Types an array may have.
DTYPES = ("float32", "int64", "bool")


class ArrayKind(NamedTuple):
    """What an array of a name is in every subject that has it.

    Attributes
    ----------
    dtype : {"float32", "int64", "bool"}
        Unknown values of ``float32`` are NaN.
    shape : tuple of int or None
        None = another size in every subject.
    entries : tuple of str, default=()
        What stands along the last axis, e.g. ``("age_years", "sex_female")``.
    """

    dtype: str
    shape: tuple[int | None, ...]
    entries: tuple[str, ...] = ()


def graph_kinds(name: str, node_features: int, edge_features: int) -> dict[str, ArrayKind]:
    """The three arrays of an `anymri.types.Graph`, for `Tables.create`.

    Parameters
    ----------
    name : str
        E.g. ``"functional"``: the arrays are ``functional.nodes`` and so on.
    node_features, edge_features : int
        F and K of `anymri.types.Graph`.
    """
    return {
        f"{name}.nodes": ArrayKind("float32", (None, node_features)),
        f"{name}.edges": ArrayKind("int64", (2, None)),
        f"{name}.edge_features": ArrayKind("float32", (None, edge_features)),
    }


@dataclass(frozen=True, kw_only=True)
class _KindRecord:
    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    dtype: Literal["float32", "int64", "bool"]
    shape: tuple[NonNegativeInt | None, ...]
    entries: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _TablesRecord:
    """Content of ``tables.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[2]
    arrays: dict[str, _KindRecord]


@dataclass(frozen=True, kw_only=True)
class _SubjectRecord:
    """Metadata of a subject's file."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[2]
    subject_id: str
    arrays_sha256: Digest


class Tables:
    """A folder of subjects' arrays.

    Parameters
    ----------
    folder : path-like
        Folder with ``tables.json``.

    Raises
    ------
    UserError
        If it is not such a folder or was written by another version of the format.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / "tables.json"
        if not path.exists():
            raise UserError(f"{self.folder}: holds no tables (no tables.json); make them with Tables.create")
        kinds = read_record(path, _TablesRecord, REMEDY).arrays
        self.arrays = {name: ArrayKind(kind.dtype, kind.shape, kind.entries) for name, kind in kinds.items()}

    @classmethod
    def create(cls, folder: Path | str, arrays: Mapping[str, ArrayKind]) -> Tables:
        """Make a folder for the given arrays, or open one that was made for the same.

        Parameters
        ----------
        folder : path-like
            ``tables`` in a cache, where training finds it, or any other.
        arrays : dict of str to ArrayKind
            Every array that a subject may have; see also `graph_kinds`.

        Raises
        ------
        ValueError
            If a type is unknown, or entries do not fit the last axis.
        UserError
            If the folder holds other tables or cannot be written.
        """
        for name, kind in arrays.items():
            if kind.dtype not in DTYPES:
                raise ValueError(f"array {name}: unknown type {kind.dtype!r}; use one of {', '.join(DTYPES)}")
            if kind.entries and (not kind.shape or kind.shape[-1] != len(kind.entries)):
                raise ValueError(f"array {name}: {len(kind.entries)} entries do not fit the shape {kind.shape}")
        folder = make_folder(folder)
        if (folder / "tables.json").exists():
            found = cls(folder)
            if found.arrays != {name: ArrayKind(*kind) for name, kind in arrays.items()}:
                raise UserError(f"{folder}: holds tables of other arrays; choose a new folder")
            return found
        content = {"format": FORMAT_VERSION, "arrays": {name: kind._asdict() for name, kind in arrays.items()}}
        write_record(folder / "tables.json", content)
        return cls(folder)

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Subjects that have a file, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.safetensors") if path.name[0] != "."))

    def write(self, subject_id: str, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """Store a subject's arrays; older ones are replaced.

        Parameters
        ----------
        subject_id : str
            As in the cache.
        arrays : dict of str to ndarray
            Those that are known of it, of the type and shape of their kind.

        Returns
        -------
        Path
            The file; the same arrays give the same bytes.

        Raises
        ------
        UserError
            If an array does not fit its kind, the id cannot be a file name, or the disk refuses.
        """
        path = self._path(subject_id)
        self._check(path, arrays)
        stored = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
        facts = {"format": FORMAT_VERSION, "subject_id": subject_id, "arrays_sha256": _digest(stored)}
        # A single key: the library writes several in random order.
        content = save(stored, metadata={"anymri": json.dumps(seal(facts))})
        with replace_file(path) as handle:
            handle.write(content)
        return path

    def read(self, subject_id: str) -> dict[str, NDArray[Any]]:
        """A subject's arrays, checked; empty if it has no file.

        Raises
        ------
        UserError
            If the file is damaged, is another subject's, or does not fit ``tables.json``, or the id cannot be a file
            name.
        """
        path = self._path(subject_id)
        if not path.exists() and not path.is_symlink():
            return {}
        try:
            if not path.is_file():
                raise OSError("no plain file")
            with safe_open(str(path), framework="numpy") as file:
                text = (file.metadata() or {}).get("anymri", "")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise UserError(f"{path}: is damaged ({error}); write it anew") from None
        facts = check_record(parse_json(text, path, "write it anew"), _SubjectRecord, path, "write it anew")
        if facts.arrays_sha256 != _digest(arrays):
            raise UserError(f"{path}: was changed or damaged (arrays_sha256 does not fit); write it anew")
        if facts.subject_id != subject_id:
            raise UserError(f"{path}: subject_id is {facts.subject_id!r}, of another subject; write it anew")
        self._check(path, arrays)
        return arrays

    def fingerprint(self) -> str:
        """Sha256 over the kinds of arrays and the content of every subject."""
        digest = hashlib.sha256(json.dumps(self.arrays, sort_keys=True).encode())
        for subject_id in self.subject_ids:
            digest.update(f"{subject_id} {_digest(self.read(subject_id))}".encode())
        return digest.hexdigest()

    def _path(self, subject_id: str) -> Path:
        try:
            check_subject_id(subject_id)
        except ValueError as error:
            raise UserError(str(error)) from None
        return self.folder / f"{subject_id}.safetensors"

    def _check(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            kind = self.arrays.get(name)
            if kind is None:
                raise UserError(f"{path}: array {name!r} is unknown; known: {', '.join(self.arrays)}")
            fits = len(array.shape) == len(kind.shape) and all(
                wanted in (None, size) for size, wanted in zip(array.shape, kind.shape, strict=True)
            )
            if array.dtype != kind.dtype or not fits:
                raise UserError(
                    f"{path}: {name} is {array.dtype} {array.shape}, not {kind.dtype} {kind.shape}; convert it first"
                )
            if array.dtype == np.float32 and np.isinf(array).any():
                raise UserError(f"{path}: {name} holds an infinite value; unknown values are NaN")
        for name in {name.removesuffix(".edges") for name in arrays if name.endswith(".edges")}:
            _check_graph(path, arrays, name)


def _check_graph(path: Path, arrays: Mapping[str, NDArray[Any]], name: str) -> None:
    lacking = [part for part in Graph._fields if f"{name}.{part}" not in arrays]
    if lacking:
        raise UserError(f"{path}: graph {name} has edges but no {lacking[0]}; write all three arrays")
    graph = Graph.of(arrays, name)
    assert graph is not None
    if graph.edges.size and not 0 <= graph.edges.min() <= graph.edges.max() < len(graph.nodes):
        raise UserError(f"{path}: graph {name} has {len(graph.nodes)} nodes and an edge to another one; count from 0")
    if graph.edges.shape[1] != len(graph.edge_features):
        raise UserError(
            f"{path}: graph {name} has {graph.edges.shape[1]} edges and features of {len(graph.edge_features)}; "
            "give each edge its own"
        )


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Sha256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
