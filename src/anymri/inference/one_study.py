"""One study from its files to its result folder: what `anymri predict` does, once or for each study of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from anymri.data.dicom import is_dicom_study
from anymri.data.index import find_study
from anymri.data.raw.source import find_raw
from anymri.data.raw.study import RawOptions
from anymri.inference.output.deidentify import names_below, without_names
from anymri.inference.output.formats import DEFAULT_OUTPUTS, check_outputs
from anymri.inference.output.result import LABEL_SCHEMES, LabelScheme, Result
from anymri.inference.output.write import write_result
from anymri.inference.predict import LabelCheck, Model, predict_study
from anymri.inference.sliding_window import Precision
from anymri.inference.trust.completion import Completion
from anymri.inference.trust.quality import CHOICES, Choice
from anymri.types import UserError

__all__ = ["PredictSettings", "StudyImages", "StudySource", "find_images", "predict_to_folder"]

#: Settings that do not change what is computed.
_WITHOUT_EFFECT = ("device",)


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Settings of `anymri predict`: everything but which study, where to, and how many at a time.

    An option added here reaches single studies and batches alike, and a batch does a study again when it changes.

    Parameters
    ----------
    model : str, default="default"
    device : str, default="auto"
        See `anymri.inference.predict.load`.
    labels, precision, check_labels, completion, quality
        See `anymri.inference.predict.predict_study`.
    raw : bool, default=False
        The images are as the scanner made them; DICOM always is.
    skip, brain_mask, normalise
        See `anymri.data.raw.study.RawOptions`; for raw studies only.
    save_probabilities : bool, default=False
    outputs : tuple of str, default=("nifti",)
    seg_series : str or None, default=None
    deidentify : bool, default=False
        See `anymri.inference.output.write.write_result`.

    Raises
    ------
    UserError
        If a choice does not exist.
    """

    model: str = "default"
    device: str = "auto"
    labels: LabelScheme = "anymri"
    precision: Precision = "auto"
    check_labels: LabelCheck = "warn"
    completion: Completion = "auto"
    quality: Choice = "warn"
    raw: bool = False
    skip: tuple[str, ...] = ()
    brain_mask: str = "auto"
    normalise: str = "zscore"
    save_probabilities: bool = False
    outputs: tuple[str, ...] = DEFAULT_OUTPUTS
    seg_series: str | None = None
    deidentify: bool = False

    def __post_init__(self) -> None:
        choices = {
            "labels": tuple(LABEL_SCHEMES),
            "precision": ("auto", "32", "bf16"),
            "check_labels": ("warn", "strict", "off"),
            "quality": CHOICES,
            "completion": get_args(Completion),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                option, text = f"--{name.replace('_', '-')}", " or ".join([", ".join(allowed[:-1]), allowed[-1]])
                raise UserError(f"{option} {getattr(self, name)}: unknown; choose {text}")
        self.raw_options()
        check_outputs(self.outputs)
        if self.seg_series is not None and "dicom-seg" not in self.outputs:
            raise UserError(f"--seg-series {self.seg_series}: chooses for dicom-seg; add --outputs dicom-seg")

    def raw_options(self) -> RawOptions:
        """How raw studies are prepared."""
        return RawOptions(skip=self.skip, brain_mask=self.brain_mask, normalise=self.normalise)

    def with_effect(self) -> dict[str, Any]:
        """Plain values of all settings that may change a result."""
        return {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT}


@dataclass(frozen=True, kw_only=True)
class StudySource:
    """Where the images of one study are.

    Parameters
    ----------
    folder : Path or None, default=None
        Folder of the study in any layout that is read, of DICOM files, or a zip archive of these.
    files : mapping of str to str
        Modality code to file, or for a DICOM study to the number of a series; goes before what the folder holds.
    session : str or None, default=None
        Which of several sessions or studies of the folder.
    raw : bool, default=False
        As `PredictSettings.raw`, for this study alone.
    name : str or None, default=None
        What the study is called in its result; None = its folder, or its file names.
    subset : tuple of str or None, default=None
        Modality codes to use, of those that are found; None = all. The others count as missing.

    Raises
    ------
    UserError
        If nothing is given, or a session without a folder.
    """

    folder: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    session: str | None = None
    raw: bool = False
    name: str | None = None
    subset: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.folder is None and not self.files:
            raise UserError("no sequence was given; give at least one of --t1, --t1c, --t2, --flair, or a study folder")
        if self.folder is None and self.session is not None:
            raise UserError(f"--session {self.session}: chooses in a study folder, and none was given; leave it out")

    def is_raw(self, settings: PredictSettings) -> bool:
        """Whether the images are as the scanner made them."""
        return settings.raw or self.raw or (self.folder is not None and is_dicom_study(self.folder))

    def check_settings(self, settings: PredictSettings) -> None:
        """Refuse settings that would have no effect on this study.

        Raises
        ------
        UserError
            If they prepare raw studies, and this is none.
        """
        if settings.raw_options() != RawOptions() and not self.is_raw(settings):
            raise UserError("--skip, --brain-mask and --normalise prepare raw studies; add --raw, or leave them out")


class StudyImages(NamedTuple):
    """Images of one study.

    Attributes
    ----------
    images : dict of str to path or Volume
        By modality code.
    notes : tuple of str
        What was there and is not used; which of several was taken. Plain sentences.
    raw : RawOptions or None
        How to prepare them; None for aligned brains.
    """

    images: dict[str, Any]
    notes: tuple[str, ...]
    raw: RawOptions | None


def find_images(
    source: StudySource, settings: PredictSettings, model: Model, say: Callable[[str], None] = lambda text: None
) -> StudyImages:
    """Find the images of a study; those of a raw study are read.

    Parameters
    ----------
    source : StudySource
    settings : PredictSettings
    model : Model
        Whose sequences are looked for.
    say : callable, optional
        Told in a line what each DICOM series is taken for.

    Raises
    ------
    UserError
        If there is none, or a choice does not exist.
    """
    wanted = model.method.spec.modalities
    if source.is_raw(settings):
        found = find_raw(source.folder, source.files, wanted, say, session=source.session)
        return _subset_of(source, StudyImages(dict(found.images), found.notes, settings.raw_options()))
    if source.folder is None:
        return _subset_of(source, StudyImages(dict(source.files), (), None))
    listed = find_study(source.folder, source.session, wanted, source.files)
    return _subset_of(source, StudyImages({**listed.images, **source.files}, listed.notes, None))


def _subset_of(source: StudySource, found: StudyImages) -> StudyImages:
    """The images that were asked for.

    Raises
    ------
    UserError
        If one of them is not there.
    """
    if source.subset is None:
        return found
    absent = [code for code in source.subset if code not in found.images]
    if absent:
        there = ", ".join(found.images) or "none"
        raise UserError(f"--subset {'+'.join(source.subset)}: the study has no {absent[0]}; it has {there}")
    return found._replace(images={code: image for code, image in found.images.items() if code in source.subset})


def predict_to_folder(
    source: StudySource,
    out: Path | str,
    settings: PredictSettings,
    model: Model,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Segment and complete one study and write its result folder.

    Parameters
    ----------
    source : StudySource
    out : path-like
        New or empty folder.
    settings : PredictSettings
    model : Model
        That of the settings, opened.
    overwrite : bool, default=False
        Whether to replace an earlier result.
    say : callable, optional
        See `find_images`.

    Raises
    ------
    UserError
        If the study cannot be read or the folder cannot be written; nothing is left behind.
    """
    found = find_images(source, settings, model, say)
    check_outputs(settings.outputs, dicom=_came_as_dicom(found.images))
    if settings.seg_series is not None and settings.seg_series not in found.images:
        given = ", ".join(found.images)
        raise UserError(f"--seg-series {settings.seg_series}: the study has no such sequence; choose of {given}")
    named = source.name or (None if source.folder is None else source.folder.resolve().name)
    result = predict_study(
        found.images,
        model=model,
        labels=settings.labels,
        precision=settings.precision,
        raw=found.raw,
        notes=found.notes,
        check_labels=settings.check_labels,
        quality=settings.quality,
        completion=settings.completion,
        name=named,
    )
    if settings.deidentify:
        result = without_names(result, names_below(source.folder))
    write_result(
        result,
        out,
        overwrite=overwrite,
        probabilities=settings.save_probabilities,
        outputs=settings.outputs,
        deidentify=settings.deidentify,
        seg_series=settings.seg_series,
    )
    return result


def _came_as_dicom(images: Mapping[str, Any]) -> bool:
    """Whether any image is, or may be, a DICOM series: one that was read as such, or a folder."""
    return any(Path(image).is_dir() if isinstance(image, (str, Path)) else image.dicom for image in images.values())
