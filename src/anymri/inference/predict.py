"""Prediction of one study: segmentation, completed sequences, how far to trust them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from nibabel.spatialimages import SpatialImage

from anymri.data.nifti import Volume, read_image
from anymri.data.preprocess import preprocess_study
from anymri.data.raw.stripped import check_stripped
from anymri.data.raw.study import RawOptions, RawStudy, prepare_raw
from anymri.data.study import Study
from anymri.data.upright import settle_axes
from anymri.inference.device import find_device
from anymri.inference.labels import label_map, region_probability
from anymri.inference.other_libraries import plain_images
from anymri.inference.output.raw_result import make_raw_result
from anymri.inference.output.result import LabelScheme, Result, SourceSeries, View, label_scheme
from anymri.inference.output.write import write_result
from anymri.inference.restore import Restored, restore_prediction, restore_raw
from anymri.inference.sliding_window import Precision, SubjectPrediction, WindowSettings, predict_subject
from anymri.inference.trust.calibration import Calibration, read_calibration
from anymri.inference.trust.completion import Completion, judge_completion, kept_channels, kept_outputs
from anymri.inference.trust.expected import trust_in_study, withhold
from anymri.inference.trust.measured import (
    best_addition,
    first_sentences,
    measured_summary,
    unknown_regions,
    unknown_warnings,
)
from anymri.inference.trust.quality import Choice, StudyQuality, judge_rest, judge_study, usable_of
from anymri.inference.trust.same_head import check_same_head
from anymri.inference.trust.sequence_check import SequenceCheck, brains_of, check_sequences, refuse_wrong_labels
from anymri.inference.trust.uncertainty import sample_agreement, trust_summary
from anymri.methods import Method, PerSubsetModels
from anymri.modalities import MODALITIES
from anymri.threads import map_parts
from anymri.types import DataSpec, Head, UserError
from anymri.version import __version__
from anymri.zoo import ModelCard, calibration_place, get_card, open_model, weights_sha256

__all__ = ["Model", "Result", "load", "predict_study", "write_result"]

Array = np.ndarray[Any, Any]
Image = str | Path | SpatialImage | Volume
LabelCheck = Literal["warn", "strict", "off"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A method with weights, and what is known about them.

    Parameters
    ----------
    name : str
    method : Method or PerSubsetModels
    card : ModelCard or None
        For bundled models.
    sha256 : str
        Checksum of the weights file, of several files that of their checksums; ``""`` for a method in memory.
    calibration : Calibration or None
        What these weights reached on studies they had not seen.
    notes : tuple of str
        What is doubtful about the model itself; becomes part of the warnings.
    """

    name: str
    method: Method | PerSubsetModels
    card: ModelCard | None = None
    sha256: str = ""
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()

    def predict(
        self,
        images: Mapping[str, Image],
        *,
        labels: LabelScheme = "anymri",
        outputs: tuple[str, ...] | None = None,
        samples: int = 0,
        precision: Precision = "auto",
        raw: RawOptions | None = None,
        notes: Sequence[str] = (),
        check_labels: LabelCheck = "warn",
        completion: Completion = "auto",
        quality: Choice = "warn",
        name: str | None = None,
    ) -> Result:
        """Segment and complete one study; see `predict_study`."""
        return predict_study(
            images,
            model=self,
            labels=labels,
            outputs=outputs,
            samples=samples,
            precision=precision,
            raw=raw,
            notes=notes,
            check_labels=check_labels,
            completion=completion,
            quality=quality,
            name=name,
        )


def load(model: str | Path | Method | PerSubsetModels | Model = "default", device: str = "auto") -> Model:
    """Open a model for prediction.

    Parameters
    ----------
    model : str, path-like, Method or PerSubsetModels
        ``"default"``, a name of `anymri.zoo.list_models`, a weights file, a run folder, a folder of the runs of
        one method with a network per subset, or a method in memory.
    device : str, default="auto"
        ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:<number>``; ``auto`` is the GPU where there is one. What is in
        memory stays where it is.

    Returns
    -------
    Model
        ``load("default").predict({"flair": "flair.nii.gz"}).segmentation``

    Raises
    ------
    UserError
        If there is no such model or device.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, (Method, PerSubsetModels)):
        return Model(name=model.name, method=model.eval())
    place = find_device(device)
    card = get_card(str(model))
    method = open_model(model).to(place)
    digest, beside = weights_sha256(model), calibration_place(model)
    notes: tuple[str, ...] = ()
    calibration = read_calibration(beside) if beside.is_file() else None
    if calibration is not None and calibration.weights_sha256 != digest:
        notes = (f"{beside.name} belongs to other weights and is not used; make one with anymri calibrate.",)
        calibration = None
    name = card.name if card is not None else (method.facts.run or Path(model).name)
    return Model(name=name, method=method, card=card, sha256=digest, calibration=calibration, notes=notes)


def predict_study(
    images: Mapping[str, Image],
    model: str | Path | Method | PerSubsetModels | Model = "default",
    *,
    labels: LabelScheme = "anymri",
    outputs: tuple[str, ...] | None = None,
    samples: int = 0,
    precision: Precision = "auto",
    raw: RawOptions | None = None,
    notes: Sequence[str] = (),
    check_labels: LabelCheck = "warn",
    completion: Completion = "auto",
    quality: Choice = "warn",
    name: str | None = None,
) -> Result:
    """Segment a study with whatever sequences there are, and fill in the missing ones.

    Parameters
    ----------
    images : mapping of str to path, nibabel image or Volume; a MONAI dictionary or a TorchIO Subject
        Modality code to skull-stripped image, all on one grid; with `raw`, to the scanner's images.
    model : str, path-like, Method, PerSubsetModels or Model, default="default"
        See `load`.
    labels : {"anymri", "brats2021"}, default="anymri"
        Values of the segmentation; ``brats2021`` writes 4 for enhancing tumour.
    outputs : tuple of {"logits", "image", "class_logits"} or None, default=None
        What to compute; None = all the method gives.
    samples : int, default=0
        Samples drawn to see how far they agree, for methods that sample; 0 or at least 2.
    precision : {"auto", "32", "bf16"}, default="auto"
        ``auto`` computes in bfloat16 where the processor does so natively.
    raw : RawOptions or None, default=None
        How to align the images and find the brain first; the result is then on the grid of the reference sequence.
        None = the images are aligned brains.
    notes : sequence of str, default=()
        What finding the files left doubtful, e.g. `anymri.data.index.StudyFiles.notes`; becomes part of the warnings.
    check_labels : {"warn", "strict", "off"}, default="warn"
        What to do where an image does not look like the sequence it was given as; ``strict`` refuses it.
    completion : {"auto", "always", "never"}, default="auto"
        Which of the sequences that the method fills in to keep; ``auto`` leaves out what was measured, with the
        sequences given, to be no better than a copy of one of them.
    quality : {"off", "warn", "drop"}, default="warn"
        Whether to judge the quality of each sequence; ``drop`` leaves out those that are unusable, which then count as
        missing.
    name : str or None, default=None
        What the study is called in the result, e.g. its folder; None = its file names. Never the patient's name.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If no sequence is given or left, one is unknown to the model or unusable, or the model was not trained for them.
    """
    opened = load(model)
    spec = opened.method.spec
    scheme = label_scheme(labels, spec)
    images = plain_images(images, spec)
    subset = _check_request(images, opened)
    if samples == 1:
        raise UserError("samples = 1: one sample cannot agree with itself; draw at least 2, or 0")
    given = map_parts(_read, {code: images[code] for code in subset})
    checked, judged = _prepare_usable(given, opened, raw, check_labels, quality)
    subset = spec.parse_subset(tuple(checked.volumes))
    given = {code: given[code] for code in subset}
    completed = judge_completion(opened.card, spec, subset, completion) if "image" in opened.method.outputs else {}
    outputs = kept_outputs(outputs, completed, opened.method)
    windows = WindowSettings(precision=precision).trained_as(opened.method.facts)
    prediction = predict_subject(opened.method, checked.study, [subset], windows, outputs=outputs)[subset]
    prediction = replace(prediction, synthesised=kept_channels(completed, prediction.synthesised, spec))
    trust = _trust(prediction, checked, opened, subset) | ({"completion": completed} if completed else {})
    if checked.sequences.record:
        trust["sequence_check"] = checked.sequences.record
    if samples:
        trust["sample_agreement"] = _draw_samples(opened, checked.study, subset, samples, windows)
    view, extra = _restore(prediction, checked, spec)
    regions = [] if view.label is None else list(trust["regions"])
    unknown = unknown_regions(regions, subset)
    trust["regions"] = {region: values for region, values in trust["regions"].items() if region not in unknown}
    guesses = {region: trust["expected"].pop(region) for region in unknown if region in trust.get("expected", {})}
    said = [*first_sentences(trust, spec, subset), *unknown_warnings(unknown, guesses), *best_addition(trust)]
    warned = [*said, *opened.notes, *notes, *checked.doubts, *(judged.sentences if judged else ())]
    return Result(
        name=name or ", ".join(dict.fromkeys(_file_name(images[code]) for code in subset)),
        volumes_ml=_volumes_ml(view, spec, regions) | dict.fromkeys(unknown),
        unknown=unknown,
        available=subset,
        missing=tuple(code for code in spec.modalities if code not in subset),
        label_values=scheme,
        trust=trust,
        warnings=tuple(dict.fromkeys(warned)),
        provenance=_provenance(opened, images, given, checked.study),
        spec=spec,
        view=view,
        raw=extra,
        sources=_sources(given, checked),
        quality=judged,
    )


def _sources(given: Mapping[str, Volume], checked: _Prepared) -> dict[str, SourceSeries]:
    """DICOM series of the sequences that came as such, on the grids that the result is brought to."""
    placed = checked.volumes if checked.prepared is None else given
    return {
        code: SourceSeries(volume.dicom, placed[code].geometry)
        for code, volume in given.items()
        if volume.dicom is not None
    }


class _Prepared(NamedTuple):
    """A study ready for the network, and what its preparation left doubtful."""

    study: Study
    volumes: dict[str, Volume]
    brains: dict[str, Volume]  # in the scanner's values
    prepared: RawStudy | None
    sequences: SequenceCheck
    doubts: list[str]
    contradictions: list[str]  # images against their names, or against each other


def _prepare_usable(
    given: dict[str, Volume], model: Model, raw: RawOptions | None, check_labels: LabelCheck, quality: Choice
) -> tuple[_Prepared, StudyQuality | None]:
    """Prepare a study and judge its quality; without its unusable sequences, if they are to be dropped.

    Raises
    ------
    UserError
        As `_prepare`; if no sequence is left, or the model was not trained for those that are.
    """
    checked = _prepare(given, model, raw, check_labels)
    judged = None if quality == "off" else judge_study(checked.brains, quality)
    while judged is not None and quality == "drop" and judged.unusable:
        left = usable_of(checked.volumes, judged)
        subset = _check_request(left, model)
        # Anew, so that nothing of what is left out remains.
        checked = _prepare({code: given[code] for code in subset}, model, raw, check_labels)
        judged = judge_rest(judged, checked.brains)
    return checked, judged


def _prepare(given: dict[str, Volume], model: Model, raw: RawOptions | None, check_labels: LabelCheck) -> _Prepared:
    """Check the images, align them if they are raw, and normalise them.

    Raises
    ------
    UserError
        If an image is not usable, or is not the sequence it was given as and `check_labels` is strict.
    """
    doubts = _reading_notes(given)
    if raw is None:
        check_stripped(given)
    prepared = None if raw is None else prepare_raw(given, raw)
    doubts += () if prepared is None else prepared.notes
    volumes = given if prepared is None else prepared.images
    if prepared is None:
        volumes, turned = settle_axes(given)
        doubts += [f"{text[0].upper()}{text[1:]}." for text in turned]
    study = preprocess_study(volumes, model.method.facts.spacing_mm, spec=model.method.spec)
    contradictions = [] if prepared is not None else check_same_head(volumes)
    brains = volumes if prepared is None else brains_of(prepared.heads, volumes)
    sequences = check_sequences({} if check_labels == "off" else brains)
    if check_labels == "strict":
        refuse_wrong_labels(sequences, volumes)
    contradictions += [f"{MODALITIES[code].long_name} {text}." for code, text in sequences.sentences.items()]
    return _Prepared(study, volumes, brains, prepared, sequences, doubts, contradictions)


def _read(_: str, image: Image) -> Volume:
    return image if isinstance(image, Volume) else read_image(image)


def _reading_notes(volumes: Mapping[str, Volume]) -> list[str]:
    """What reading the files left doubtful, with the sequence's name in front."""
    return [f"{MODALITIES[code].long_name}: {note}" for code, volume in volumes.items() for note in volume.notes]


def _check_request(images: Mapping[str, Image], model: Model) -> tuple[str, ...]:
    """Subset that was given, in the model's order."""
    spec = model.method.spec
    if not images:
        raise UserError(f"no sequence was given; give at least one of {', '.join(spec.modalities)}")
    unknown = [code for code in images if code not in spec.modalities]
    if unknown:
        raise UserError(f"model {model.name} does not know {unknown[0]!r}; it takes {', '.join(spec.modalities)}")
    subset = spec.parse_subset(tuple(images))
    trained = model.method.subsets
    if trained != "any" and spec.subset_name(subset) not in trained:
        raise UserError(
            f"model {model.name} was not trained for {spec.subset_name(subset)}; it serves {', '.join(trained)}"
        )
    return subset


def _trust(prediction: SubjectPrediction, checked: _Prepared, model: Model, subset: tuple[str, ...]) -> dict[str, Any]:
    spec = model.method.spec
    trust: dict[str, Any] = {"regions": {}, "measured": measured_summary(model.calibration, spec, subset)}
    if model.calibration is not None:
        trust |= trust_in_study(model.calibration, prediction, checked.study, subset, spec)
    if prediction.box_probability is not None and prediction.head is not None:
        voxel_ml = float(np.prod(checked.study.spacing_mm)) / 1000
        trust["regions"] = trust_summary(prediction.box_probability, prediction.head, voxel_ml, spec)
    return withhold(trust, checked.contradictions)


def _draw_samples(
    model: Model, study: Study, subset: tuple[str, ...], samples: int, windows: WindowSettings
) -> dict[str, float]:
    drawn = []
    head = model.method.head
    if head is None:
        return {}
    for number in range(samples):
        settings = replace(windows, sample=number)
        part = predict_subject(model.method, study, [subset], settings, outputs=("logits",))[subset]
        drawn.append(part.box_probability)
    return sample_agreement(drawn, head, model.method.spec)


def _restore(prediction: SubjectPrediction, checked: _Prepared, spec: DataSpec) -> tuple[View, Any]:
    """Arrays on the grid of the input, and those of a raw study's other grids; the channels are given up on return."""
    restored, extra = restore_prediction(prediction, checked.study, checked.volumes, spec), None
    if checked.prepared is not None:
        restored, labels_elsewhere = restore_raw(restored, checked.prepared, prediction.head, spec)
        extra = make_raw_result(checked.prepared, labels_elsewhere)
    return _view(restored, prediction.head, spec), extra


def _view(restored: Restored, head: Head | None, spec: DataSpec) -> View:
    """Arrays of the report: label map and regions from the channels' probabilities."""
    label, by_region = None, {}
    if restored.probability is not None and head is not None:
        label = label_map(restored.probability, head, spec)
        by_region = region_probability(restored.probability, head, spec)
    return View(
        images=restored.images,
        label=label,
        completed=restored.completed,
        probability=by_region,
        entropy=restored.entropy,
        geometry=restored.geometry,
    )


def _volumes_ml(view: View, spec: DataSpec, regions: Sequence[str]) -> dict[str, float | None]:
    """Region volumes counted in the output label map."""
    if view.label is None:
        return {}
    most = 1 + max((255, *spec.labels.values()))
    counts = np.zeros(most, np.int64)
    for plane in view.label:  # of all at once numpy would make 64-bit numbers first
        counts += np.bincount(plane.ravel(), minlength=most)
    voxel_ml = float(abs(np.linalg.det(view.geometry.affine[:3, :3]))) / 1000
    return {region: float(counts[list(spec.region_values(region))].sum()) * voxel_ml for region in regions}


def _file_name(image: Image) -> str:
    """File name of an image; names of folders stay out of results."""
    if isinstance(image, (str, Path)):
        return Path(image).name
    return Path(image.source).name if isinstance(image, Volume) else "image in memory"


def _citation(model: Model) -> str:
    """Paper of the method in one line; ``anymri cite`` prints it as BibTeX."""
    info = getattr(model.method, "info", None)
    if info is None:
        return "not known"
    known = [f"doi:{info.doi}" if info.doi else "", f"arXiv:{info.arxiv}" if info.arxiv else ""]
    return ", ".join([f"{info.title}: {info.reference}", *(name for name in known if name)])


def _provenance(
    model: Model, images: Mapping[str, Image], volumes: Mapping[str, Volume], study: Study
) -> dict[str, Any]:
    inputs = {}
    for code, volume in volumes.items():
        inputs[code] = {
            "name": _file_name(images[code]),
            "sha256_of_voxels": hashlib.sha256(np.ascontiguousarray(volume.array).data).hexdigest(),
        }
    window = model.method.facts.window
    return {
        "program": f"anymri {__version__}",
        "torch": torch.__version__,
        "model": model.name,
        "method": model.method.name,
        "weights_sha256": model.sha256,
        "licence": "not known" if model.card is None else model.card.licence,
        "cite": _citation(model),
        "grid_mm": [round(size, 4) for size in study.spacing_mm],
        "window": None if window is None else list(window),
        "inputs": inputs,
    }
