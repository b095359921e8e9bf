"""Save what an evaluation predicts: label maps and completed sequences as NIfTI, one folder per subject and subset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymri.data.nifti import write_image
from anymri.data.study import Study
from anymri.evaluation.table_records import PredictionsCard
from anymri.files import make_folder, replace_folder
from anymri.inference.labels import label_map
from anymri.inference.restore import restore_image
from anymri.inference.sliding_window import SubjectPrediction
from anymri.records import read_record, write_record
from anymri.types import DataSpec, Head, UserError

__all__ = ["SavedPredictions"]

CARD = "predictions.json"


class SavedPredictions:
    """Folder of predictions: ``<subject>/<subset>/segmentation.nii.gz`` and ``completed/<modality>_synthetic.nii.gz``.

    A subset's folder is there once all of it is written, so that an interrupted evaluation goes on.

    Parameters
    ----------
    folder : Path
        New, empty, or of this very evaluation.
    identity : str
        Hash of everything that the predictions depend on.
    facts : dict
        Written to ``predictions.json`` for readers: model, labels, grid.
    spec : DataSpec

    Raises
    ------
    UserError
        If the folder holds something else or cannot be written.
    """

    def __init__(self, folder: Path, identity: str, facts: dict[str, Any], spec: DataSpec) -> None:
        self.folder, self.spec = make_folder(folder), spec
        card = folder / CARD
        if card.is_file():
            if read_record(card, PredictionsCard, "choose a new folder").identity != identity:
                raise UserError(f"{folder}: holds predictions of another model or question; choose a new folder")
            return
        if any(folder.iterdir()):
            raise UserError(f"{folder}: holds other files; choose a new folder for the predictions")
        write_record(card, {"format": 1, "identity": identity, **facts})

    def is_complete(self, subject: str, subsets: Sequence[Sequence[str]]) -> bool:
        """Whether all subsets of a subject are saved."""
        return all(self._place(subject, subset).is_dir() for subset in subsets)

    def write(
        self, study: Study, truth: Study, subset: Sequence[str], prediction: SubjectPrediction, probability: Any
    ) -> None:
        """Save one prediction, unless it is saved.

        Parameters
        ----------
        study : Study
            Subject on the grid of the model.
        truth : Study
            The same subject on the grid to write on: `study`, or that of a reference cache.
        subset : sequence of str
        prediction : SubjectPrediction
        probability : array or Tensor of float, shape (C, D, H, W), or None
            On the grid of `truth`; None = no label map.
        """
        place = self._place(study.subject_id, subset)
        if place.is_dir():
            return
        grid = truth.grid
        with replace_folder(place) as draft:
            if probability is not None:
                head = prediction.head
                assert isinstance(head, Head)
                write_image(draft / "segmentation.nii.gz", label_map(probability, head, self.spec), grid)
            for code, image in self._completed(study, truth, subset, prediction).items():
                write_image(make_folder(draft / "completed") / f"{code}_synthetic.nii.gz", image, grid, np.float32)

    def _completed(
        self, study: Study, truth: Study, subset: Sequence[str], prediction: SubjectPrediction
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Synthesised sequences, z-scores inside the brain of what was given, 0 outside."""
        if prediction.image is None:
            return {}
        channels = [self.spec.index(code) for code in subset]
        brain, native = torch.from_numpy(study.brain(channels)), truth.brain(channels)
        restored = {}
        for channel in torch.nonzero(prediction.synthesised).flatten().tolist():
            image = prediction.image[channel]
            restored[self.spec.modalities[channel]] = restore_image(image, brain, study.lattice, native, truth.lattice)
        return restored

    def _place(self, subject: str, subset: Sequence[str]) -> Path:
        return self.folder / subject / self.spec.subset_name(subset)
