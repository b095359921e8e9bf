"""Records of a batch: what became of each study, and what it followed from, so that nothing is done twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from anymri.data.dicom import is_dicom_study
from anymri.data.selectors import source_files
from anymri.errors import UserError
from anymri.files import inside
from anymri.inference.batch.studies import BatchStudy
from anymri.inference.one_study import PredictSettings, StudySource, find_images
from anymri.inference.predict import Model
from anymri.records import RECORD, read_record, write_record
from anymri.version import __version__

__all__ = ["BatchFolder", "StudyRecord", "Wanted", "digest_result", "wanted_record", "what_changed"]

#: Headers of these formats may keep their voxels in a second file.
_DETACHED = (".mhd", ".nhdr")


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """What became of one study; ``records/<study>.json``.

    Parameters
    ----------
    format : int
    study : str
    status : {"done", "failed"}
    reason : str
        Why it failed, one line.
    inputs : str
        Checksum over names and bytes of all its files; ``""`` where they could not be read.
    settings : dict
        `PredictSettings.with_effect`, with what the list of studies says of this one.
    weights_sha256, program : str
        Which model, and which version of anymri.
    result_sha256 : str
        Over names and bytes of all files of its result folder; ``""`` if it failed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1] = 1
    study: str
    status: Literal["done", "failed"]
    reason: str = ""
    inputs: str
    settings: dict[str, Any]
    weights_sha256: str
    program: str
    result_sha256: str = ""


@dataclass(frozen=True)
class BatchFolder:
    """Places in the folder of a batch.

    Parameters
    ----------
    path : Path
    """

    path: Path

    @property
    def records(self) -> Path:
        """Folder with a record for each study that was tried."""
        return self.path / "records"

    def record(self, study: str) -> Path:
        """Record of a study."""
        return inside(self.records, f"{study}.json")

    def fault(self, study: str) -> Path:
        """Text of a fault of the program, where a study met one."""
        return inside(self.records, f"{study}.txt")

    def result(self, study: str) -> Path:
        """Result folder of a study."""
        return inside(self.path / "studies", study)

    def thumbnail(self, study: str) -> Path:
        """Small picture of a study."""
        return inside(self.path / "thumbnails", f"{study}.png")

    def read(self, study: str) -> StudyRecord | None:
        """The record of a study, None if there is none that can be read."""
        path = self.record(study)
        if not path.is_file():
            return None
        try:
            return read_record(path, StudyRecord, "it is made anew")
        except UserError:
            return None

    def write(self, record: StudyRecord) -> None:
        """Write the record of a study."""
        write_record(self.record(record.study), asdict(record))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the result of a study has to follow from; see `StudyRecord`."""

    inputs: str
    settings: dict[str, Any]
    weights_sha256: str
    program: str


def wanted_record(study: BatchStudy, settings: PredictSettings, model: Model) -> Wanted:
    """What the result of a study has to follow from.

    Raises
    ------
    UserError
        If its files cannot be found or read.
    """
    if study.source is None:
        raise UserError(study.problem)
    plain = json.loads(json.dumps(settings.with_effect()))  # as it will be read back
    said = {
        "model": model.name,
        "raw": study.source.is_raw(settings),
        "session": study.source.session,
        "name": study.source.name,
    }
    return Wanted(
        inputs=_digest_inputs(study.source, settings, model),
        settings={**plain, **said},
        weights_sha256=model.sha256,
        program=f"anymri {__version__}",
    )


def what_changed(record: StudyRecord | None, wanted: Wanted, folder: BatchFolder, study: str) -> str | None:
    """Why a study has to be done (again); ``""`` where it is finished and nothing changed, None where it is new.

    A study that failed is tried again without a word: it has no result.
    """
    if record is None or record.status != "done":
        return None
    if record.inputs != wanted.inputs:
        return "its files changed"
    if record.weights_sha256 != wanted.weights_sha256:
        return "another model"
    if record.settings != wanted.settings:
        names = sorted(key for key, value in wanted.settings.items() if record.settings.get(key) != value)
        return f"other settings ({', '.join(names) or 'fewer'})"
    if record.program != wanted.program:
        return f"made by {record.program}"
    if record.result_sha256 != digest_result(folder.result(study)):
        return "its result is gone or was changed"
    return ""


def digest_result(folder: Path) -> str:
    """Checksum over names and bytes of all files of a result folder; ``""`` where there is none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = list(_digests((path.relative_to(folder).as_posix(), path) for path in files))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() if parts else ""


def _digest_inputs(source: StudySource, settings: PredictSettings, model: Model) -> str:
    """Checksum over the files that a result follows from: names and bytes, and what was found and not used.

    Raises
    ------
    UserError
        If they cannot be found or read.
    """
    parts: list[Any] = []
    if source.folder is not None and is_dicom_study(source.folder):
        root = source.folder
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        parts += _digests((path.relative_to(root.parent).as_posix(), path) for path in files)
        images: dict[str, Any] = dict(source.files)
    else:
        aligned = StudySource(**{**vars(source), "raw": False})  # opens no image
        found = find_images(aligned, PredictSettings(model=settings.model), model)
        images, parts = dict(found.images), [list(found.notes)]
    for code in sorted(images):
        files = list(_files_of(Path(images[code])))
        parts += [[code, Path(images[code]).name], *_digests((path.name, path) for path in files)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files_of(image: Path) -> Iterator[Path]:
    for path in source_files(image):
        yield path
        if path.suffix.lower() in _DETACHED:
            yield from sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)


def _digests(files: Iterable[tuple[str, Path]]) -> Iterator[list[str]]:
    for name, path in files:
        try:
            with path.open("rb") as handle:
                yield [name, hashlib.file_digest(handle, "sha256").hexdigest()]
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from None
