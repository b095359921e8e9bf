"""Cache of a preprocessed data set on disk: one memory-mapped array and one JSON sidecar per subject.

A subject exists once its sidecar does: it is written last. The format is fixed in ``docs/reference/formats.md``.

Where the voxels of another spacing lie depends on the sequences that are given. Nearly always every subset of a study
gives the same anchor; a study with subsets that give another one is kept once more for each further anchor, under
``sides/<anchor>/``, so that no subset is read from a grid that an absent sequence has placed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.cache_records import FORMAT_VERSION, SUBJECT_FACTS, CacheSettings, Sidecar
from anymri.data.datasets.layout import check_subject_id
from anymri.data.geometry import Geometry
from anymri.data.lattice import Lattice
from anymri.data.study import Study, label_dtype
from anymri.data.tables import Tables
from anymri.files import make_folder, replace_file
from anymri.moved import hand_on
from anymri.records import read_record, write_record
from anymri.types import STATISTICS, DataSpec, UserError

__all__ = ["FORMAT_VERSION", "SUBJECT_FACTS", "Cache", "study_facts"]

#: Folder of studies by the anchors of some of their subsets.
SIDES = "sides"
#: What to do where a file of a cache is wrong.
AGAIN = "run anymri preprocess again to rebuild it"
ANEW = "run anymri preprocess into a new folder"


class Cache:
    """A folder made by `anymri preprocess`.

    Parameters
    ----------
    folder : path-like
        Folder with ``dataset.json``.
    hidden : dict of str to collection of str, default={}
        Subject id to modality codes that `entry` gives as absent, as if they had never been acquired.
    facts : collection of str, default=("site", "class_label", "tables")
        What of these it tells; the others are unknown.

    Raises
    ------
    UserError
        If it is not a cache, its settings were changed or it was written by another version of the format.
    """

    def __init__(
        self,
        folder: str | Path,
        hidden: Mapping[str, Collection[str]] = MappingProxyType({}),
        facts: Collection[str] = (*SUBJECT_FACTS, "tables"),
    ) -> None:
        self.folder = Path(folder)
        self.hidden = hidden
        self.facts = frozenset(facts)
        path = self.folder / "dataset.json"
        if not path.is_file():
            raise UserError(f"{self.folder}: is not a cache (no dataset.json); run anymri preprocess first")
        settings = read_record(path, CacheSettings, ANEW)
        self.spec = settings.spec.spec()
        self._nominal_spacing_mm = settings.spacing_mm
        self._verified: set[str] = set()

    @classmethod
    def create(cls, folder: str | Path, spec: DataSpec, spacing_mm: Sequence[float] | None) -> Cache:
        """Make a cache folder, or open one that was made with the same settings.

        Parameters
        ----------
        folder : path-like
        spec : DataSpec
        spacing_mm : sequence of float or None
            Spacing (D, H, W) that subjects are resampled to; None keeps their own.

        Raises
        ------
        UserError
            If a file is in the way or the folder holds a cache with other settings.
        """
        folder = make_folder(folder)
        spacing = None if spacing_mm is None else [float(value) for value in spacing_mm]
        path = folder / "dataset.json"
        if not path.exists():
            if any(not other.name.startswith(".") for other in folder.iterdir()):
                raise UserError(f"{folder}: is not empty and not a cache; choose a new folder")
            write_record(path, _settings(spacing, spec))
        cache = cls(folder)
        if cache.settings() != _settings(spacing, spec):
            raise UserError(f"{folder}: holds a cache with another spacing or modalities; choose a new folder")
        return cache

    def settings(self) -> dict[str, Any]:
        """Content of ``dataset.json``."""
        spacing = self._nominal_spacing_mm
        return _settings(None if spacing is None else list(spacing), self.spec)

    @cached_property
    def subject_ids(self) -> tuple[str, ...]:
        """Cached subjects, sorted; read once per `Cache` object."""
        names = (path.name[: -len(".json")] for path in self.folder.glob("*.json"))
        return tuple(sorted(name for name in names if name != "dataset"))

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing (D, H, W) asked for at preprocessing; of a cache at native spacing, the subjects' median.

        Raises
        ------
        UserError
            If the cache is at native spacing and empty.
        """
        if self._nominal_spacing_mm is not None:
            return self._nominal_spacing_mm
        if not self.subject_ids:
            raise UserError(f"{self.folder}: the cache has no subject; run anymri preprocess again")
        spacing = np.median([self.sidecar(name).spacing_mm for name in self.subject_ids], axis=0)
        return float(spacing[0]), float(spacing[1]), float(spacing[2])

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Known sites of all subjects, sorted: the numbers of `anymri.types.Batch.site`."""
        return self._names("site")

    @cached_property
    def class_labels(self) -> tuple[str, ...]:
        """Known classes of all subjects, sorted: the numbers of `anymri.types.Batch.class_label`."""
        return self._names("class_label")

    @cached_property
    def tables(self) -> Tables | None:
        """Vectors and graphs of the subjects, if there are any."""
        folder = self.folder / "tables"
        return Tables(folder) if "tables" in self.facts and folder.is_dir() else None

    def _names(self, fact: str) -> tuple[str, ...]:
        if fact not in self.facts:
            return ()
        return tuple(sorted({getattr(self.sidecar(name), fact) for name in self.subject_ids} - {""}))

    def sidecar(self, subject_id: str) -> Sidecar:
        """Content of a subject's JSON file.

        Raises
        ------
        UserError
            If the subject is not in the cache, its sidecar is damaged, was changed or is another subject's, or the id
            cannot be a file name.
        """
        check_cache_name(subject_id)
        path = self.folder / f"{subject_id}.json"
        if not path.is_file():
            raise UserError(f"{self.folder}: subject {subject_id} is not in this cache; preprocess it first")
        sidecar = read_record(path, Sidecar, AGAIN)
        if sidecar.subject_id != subject_id:
            raise UserError(f"{path}: subject_id is {sidecar.subject_id!r}, of another subject; {AGAIN}")
        if unknown := set(sidecar.present) - set(self.spec.modalities):
            raise UserError(f"{path}: present names {min(unknown)}, which this cache does not have; {AGAIN}")
        return sidecar

    def entry(self, subject_id: str, subset: Sequence[str] | None = None) -> Study:
        """Open one subject; its arrays stay on disk until they are sliced.

        Parameters
        ----------
        subject_id : str
        subset : sequence of str or None, default=None
            Sequences that place the voxels, some of those it has; None = all that are not hidden.

        Raises
        ------
        UserError
            If it is not in the cache or its files are damaged.
        """
        study = self._open(subject_id)
        shown = study.present if subset is None else self.spec.available(subset).numpy()
        if not shown.any() or (lattice := study.lattice_of(shown)) == study.lattice:
            return study
        known = {name: getattr(study, name) for name in SUBJECT_FACTS}
        return self.side(lattice)._open(subject_id)._replace(**known)

    def entries(self, subject_id: str, subsets: Iterable[tuple[str, ...]]) -> list[tuple[Study, list[tuple[str, ...]]]]:
        """Open one subject on every grid that subsets of it place, nearly always one, each with these subsets."""
        shared: dict[Lattice, tuple[Study, list[tuple[str, ...]]]] = {}
        for subset in subsets:
            study = self.entry(subject_id, subset)
            shared.setdefault(study.lattice, (study, []))[1].append(subset)
        return list(shared.values())

    def side(self, lattice: Lattice) -> Cache:
        """Part of the cache for studies some of whose subsets place their voxels by the anchor of this lattice."""
        return self._part("-".join(f"{value:g}" for value in lattice.anchor))

    def _part(self, name: str) -> Cache:
        side = copy(self)
        side.folder, side._verified = self.folder / SIDES / name, set()
        side.__dict__.pop("subject_ids", None)
        return side

    def sides(self) -> list[Cache]:
        """All such parts."""
        return [self._part(path.name) for path in sorted((self.folder / SIDES).glob("*-*-*"))]

    def _open(self, subject_id: str) -> Study:
        sidecar = self.sidecar(subject_id)
        shape, channels = sidecar.shape, len(self.spec.modalities)
        shown = sidecar.statistics.keys() - set(self.hidden.get(subject_id, ()))
        present = np.array([code in shown for code in self.spec.modalities])
        statistics = np.full((channels, len(STATISTICS)), np.nan, np.float32)
        boxes, middles = np.zeros((channels, 2, 3), np.int64), np.zeros((channels, 3))
        for channel in np.flatnonzero(present):
            code = self.spec.modalities[channel]
            statistics[channel] = [sidecar.statistics[code][name] for name in STATISTICS]
            boxes[channel], middles[channel] = sidecar.boxes[code], sidecar.middles[code]
        label = self._map(f"{subject_id}.label.npy", shape, label_dtype(self.spec)) if sidecar.label_sha256 else None
        return Study(
            image=self._map(f"{subject_id}.npy", (channels, *shape), np.float16),
            present=present,
            label=label,
            statistics=statistics,
            boxes=boxes,
            middles=middles,
            spacing_mm=sidecar.spacing_mm,
            geometry=Geometry(
                np.array(sidecar.affine),
                sidecar.native_shape,
                turn=None if sidecar.turn is None else np.array(sidecar.turn),
            ),
            lattice=Lattice(sidecar.anchor, sidecar.place, sidecar.step),
            subject_id=subject_id,
            ignore=self.spec.ignore,
            **{name: getattr(sidecar, name) for name in SUBJECT_FACTS if name in self.facts},
        )

    def verify(self, subject_id: str) -> None:
        """Hold a subject against the checksums in its sidecar; done once per `Cache` object and subject.

        What a checksum confirms may still be no image: NaN or infinity in a sequence is refused.

        Raises
        ------
        UserError
            If the subject is not in the cache or was made with other settings, a byte of it has changed since it was
            written or a sequence holds NaN or infinity.
        """
        if subject_id in self._verified:
            return
        entry, sidecar = self._open(subject_id), self.sidecar(subject_id)
        if sidecar.key != self.source_key({name: asdict(file) for name, file in sidecar.sources.items()}):
            raise UserError(f"{self.folder / subject_id}.json: key is that of other settings or files; {AGAIN}")
        pairs = ((".npy", entry.image, sidecar.image_sha256), (".label.npy", entry.label, sidecar.label_sha256))
        for ending, array, digest in pairs:
            if array is not None and hashlib.sha256(array.data).hexdigest() != digest:
                raise UserError(f"{self.folder / subject_id}{ending}: was changed or damaged; {AGAIN}")
        for channel in np.flatnonzero(entry.present):
            if not np.isfinite(entry.image[channel]).all():
                path, code = self.folder / f"{subject_id}.npy", self.spec.modalities[channel]
                raise UserError(f"{path}: {code} holds NaN or infinite values; run anymri preprocess again")
        for name, digest in sidecar.sides.items():
            side = self._part(name)
            side.verify(subject_id)
            if side.sidecar(subject_id).image_sha256 != digest:
                raise UserError(f"{side.folder / subject_id}.npy: was changed or damaged; {AGAIN}")
        self._verified.add(subject_id)

    def source_key(self, sources: dict[str, Any]) -> str:
        """Sha256 over all that decides a subject's entry: format, settings, and names and content of its files."""
        return hashlib.sha256(json.dumps([self.settings(), sources], sort_keys=True).encode()).hexdigest()

    def _map(self, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            array = None
        whole = array is not None and path.stat().st_size == array.offset + array.nbytes
        if not whole or array.shape != shape or array.dtype != dtype:
            raise UserError(f"{path}: is missing or damaged; {AGAIN}")
        return array

    def write_entry(
        self, subject_id: str, study: Study, sources: dict[str, Any] | None = None, sides: Sequence[Study] = ()
    ) -> Path:
        """Store a preprocessed study; an older entry of the same subject is replaced.

        Parameters
        ----------
        subject_id : str
            Usable as a file name.
        study : Study
            Made by `anymri.data.preprocess.preprocess_study` with this cache's `spec`.
        sources : dict or None, default=None
            Where it came from (name, size and sha256 of each file), to tell later whether it is up to date.
        sides : sequence of Study, default=()
            The same by the other anchors of its subsets, see `anymri.data.preprocess.other_anchors`.

        Returns
        -------
        Path
            The sidecar.

        Raises
        ------
        UserError
            If the id cannot be a file name or the disk refuses.
        """
        check_cache_name(subject_id)
        make_folder(self.folder)
        self.remove(subject_id)
        written = [self.side(other.lattice) for other in sides]
        for side, other in zip(written, sides, strict=True):
            side.write_entry(subject_id, other, sources)
        image = np.ascontiguousarray(study.image, dtype=np.float16)
        label = None if study.label is None else np.ascontiguousarray(study.label, dtype=label_dtype(self.spec))
        sidecar = {
            "format": FORMAT_VERSION,
            "subject_id": subject_id,
            **study_facts(study, self.spec),
            "sides": {side.folder.name: side.sidecar(subject_id).image_sha256 for side in written},
            "image_sha256": hashlib.sha256(image.data).hexdigest(),
            "label_sha256": None if label is None else hashlib.sha256(label.data).hexdigest(),
            "sources": sources or {},
            "key": self.source_key(sources or {}),
        }
        paths = self.files(subject_id)
        try:
            _write_array(paths[1], image)
            if label is not None:
                _write_array(paths[2], label)
            write_record(paths[0], sidecar)  # last: it makes the subject exist
        except UserError:
            self.remove(subject_id)
            raise
        return paths[0]

    def files(self, subject_id: str) -> list[Path]:
        """Where a subject's files lie, the sidecar first."""
        return [self.folder / f"{subject_id}{ending}" for ending in (".json", ".npy", ".label.npy")]

    def remove(self, subject_id: str) -> None:
        """Remove a subject, the sidecar first."""
        self.__dict__.pop("subject_ids", None)
        self._verified.discard(subject_id)
        for path in (*self.files(subject_id), *(path for side in self.sides() for path in side.files(subject_id))):
            path.unlink(missing_ok=True)

    def update_facts(self, subject_id: str, facts: Mapping[str, str]) -> bool:
        """Let a subject's sidecar say its site and class; voxels stay as they are.

        Parameters
        ----------
        subject_id : str
        facts : dict of str to str
            ``site`` and ``class_label``; empty or not there = unknown.

        Returns
        -------
        bool
            Whether anything was new.

        Raises
        ------
        UserError
            If the subject is not in the cache or the disk refuses.
        """
        old = asdict(self.sidecar(subject_id))
        new = {**old, **{name: facts.get(name, "") for name in SUBJECT_FACTS}}
        if new == old:
            return False
        known = {key: value for key, value in new.items() if key not in (*SUBJECT_FACTS, "turn") or value}
        write_record(self.folder / f"{subject_id}.json", known)
        return True

    def fingerprint(self) -> str:
        """Sha256 over what the cache holds: settings and every subject's voxels, not paths, times, sites or classes."""
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode())
        for subject_id in self.subject_ids:
            sidecar = asdict(self.sidecar(subject_id))
            for name in ("sources", "key", *SUBJECT_FACTS):  # the files' names: what came of them counts
                del sidecar[name]
            digest.update(json.dumps(sidecar, sort_keys=True).encode())
        return digest.hexdigest()


def study_facts(study: Study, spec: DataSpec) -> dict[str, Any]:
    """What the sidecar says of a study's grid, boxes and statistics, as plain JSON values."""
    codes = [(channel, spec.modalities[channel]) for channel in np.flatnonzero(study.present)]
    return {
        "affine": study.geometry.affine.tolist(),
        **({} if study.geometry.turn is None else {"turn": study.geometry.turn.tolist()}),
        "native_shape": list(study.geometry.shape),
        "native_orientation": study.geometry.orientation,
        "native_spacing_mm": list(study.geometry.spacing_mm),
        "shape": list(study.image.shape[1:]),
        "spacing_mm": list(study.spacing_mm),
        "present": [code for _, code in codes],
        **{name: list(values) for name, values in study.lattice._asdict().items()},
        "middles": {code: study.middles[channel].tolist() for channel, code in codes},
        "boxes": {code: study.boxes[channel].tolist() for channel, code in codes},
        "statistics": {
            code: dict(zip(STATISTICS, study.statistics[channel].tolist(), strict=True)) for channel, code in codes
        },
        **{name: getattr(study, name) for name in SUBJECT_FACTS if getattr(study, name)},
    }


def _settings(spacing_mm: list[float] | None, spec: DataSpec) -> dict[str, Any]:
    return {"format": FORMAT_VERSION, "spacing_mm": spacing_mm, "spec": spec.to_dict()}


def check_cache_name(subject_id: str) -> None:
    """Refuse a subject id that cannot name files of the cache.

    Raises
    ------
    UserError
        If it cannot be a file name or is a name that the cache uses itself.
    """
    try:
        check_subject_id(subject_id)
    except ValueError as error:
        raise UserError(f"{error}; change it in the table of subjects") from None
    if subject_id == "dataset" or subject_id.endswith(".label"):
        raise UserError(f"subject id {subject_id!r}: the cache uses this name itself; choose another id")


def _write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an ``.npy`` file; through the handle, because `np.save` bypasses it and hides a full disk's reason."""
    with replace_file(path) as handle:
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(handle, header)
        handle.write(array.data.cast("B"))


__getattr__ = hand_on(__name__)
