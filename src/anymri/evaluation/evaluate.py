"""Evaluator: every subset of every subject, each window encoded once, one long table of results.

A subject enters the row of a subset only if it has all of the subset's sequences. An interrupted evaluation goes on
where it stopped: finished subjects wait in ``<out stem>.parts/``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from anymri.data.cache import Cache
from anymri.data.study import Study
from anymri.evaluation import results
from anymri.evaluation.pictures import draw_extremes
from anymri.evaluation.saved import SavedPredictions
from anymri.evaluation.score_subject import predict_cases, score_subject
from anymri.evaluation.setup import Evaluation, EvaluationSettings, Subset
from anymri.files import make_folder, replace_text
from anymri.inference.sliding_window import SubjectPrediction, WindowSettings
from anymri.locks import one_writer
from anymri.methods import Method, PerSubsetModels
from anymri.progress import progress_bar
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["evaluate"]

Item = TypeVar("Item")


def evaluate(
    model: Path | str | Method | PerSubsetModels,
    cache: Path | str,
    out: Path | str,
    *,
    split: Path | None = None,
    fold: int = 0,
    part: str = "test",
    subsets: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    outputs: tuple[str, ...] | None = None,
    reference: Path | None = None,
    batch_size: int = 1,
    overlap: float = 0.5,
    window: tuple[int, int, int] | None = None,
    seed: int = 0,
    precision: Literal["auto", "32", "bf16"] = "auto",
    device: str = "auto",
    hd95: bool = True,
    synthesis: bool = True,
    pictures: bool = True,
    progress: bool = True,
    save_predictions: Path | None = None,
    metrics: Literal["standard", "full"] = "standard",
    downstream: Path | str | None = None,
    then: Path | str | None = None,
    watch: Callable[[Study, Subset, SubjectPrediction], None] | None = None,
) -> pd.DataFrame:
    """Score a model on every subset of sequences of every subject.

    Parameters
    ----------
    model : path-like, str, Method or PerSubsetModels
        Run folder, weights file, name of a bundled model, or a method in memory.
    cache : path-like
        Folder that ``anymri preprocess`` wrote.
    out : path-like
        The table, e.g. ``results.parquet``; pictures go to ``<stem>.pictures/`` beside it.
    split : Path or None, default=None
        Split file; None = every subject of the cache.
    fold : int, default=0
    part : {"train", "validation", "test"}, default="test"
        Part of the split to score. Ignored without a split.
    subsets : sequence of str or None, default=None
        E.g. ``["flair", "t1c+flair"]``; None = all non-empty subsets that the model serves.
    subjects : sequence of str or None, default=None
        Subject ids; they win over `split`, which then only says what the baselines are fitted on.
    outputs : tuple of {"logits", "image", "class_logits"} or None, default=None
        What to score; None = all the model gives.
    reference : Path or None, default=None
        A second cache of the same files at another spacing, usually their own (``anymri preprocess`` without a
        spacing): probabilities are brought to its grid, as in `predict`, and segmentation is scored there. The
        protocol is then ``anymri-native``. None = scored on the grid of `cache`.
    batch_size : int, default=1
        Windows at a time. In fp32 on a processor the table does not depend on it; with bfloat16 or on a GPU values
        agree to rounding, and several fill a GPU.
    overlap : float, default=0.5
        Least share of a window that neighbouring windows have in common, in [0, 1).
    window : tuple of int or None, default=None
        Size (D, H, W) in voxels; None = that of the training. A method with a fixed size keeps its own.
    seed : int, default=0
        Stands in the table where the weights do not say with which seed they were trained.
    precision : {"auto", "32", "bf16"}, default="auto"
        ``auto`` takes bfloat16 where the processor computes it natively, several times faster. Only ``"32"`` is
        bit-exact.
    device : str, default="auto"
        ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:<number>``; ``auto`` is the GPU where there is one, and for a
        method in memory wherever it lies.
    hd95 : bool, default=True
        Whether to measure HD95.
    synthesis : bool, default=True
        Whether to score synthesised sequences, next to the baselines of `anymri.evaluation.baselines`.
    pictures : bool, default=True
        Whether to draw the best, median and worst subject.
    progress : bool, default=True
        Whether to show a progress bar.
    save_predictions : Path or None, default=None
        Folder to keep what is predicted, as NIfTI: ``<subject>/<subset>/segmentation.nii.gz`` and
        ``completed/<modality>_synthetic.nii.gz``, on the grid that is scored on. Subjects without a label map are
        predicted too.
    metrics : {"standard", "full"}, default="standard"
        ``full`` adds the metrics of `anymri.evaluation.scoring.score_regions_in_full`, and scores synthesis in the
        tumour and outside it too.
    downstream : path-like, str or None, default=None
        Segmenter (as `model`) that is given every completed study: rows of metric ``downstream_dice``, for the
        baselines of synthesis too, and for the complete real studies under the method ``complete_study``.
    then : path-like, str or None, default=None
        Segmenter that makes one system with `model`: the model completes each study, the segmenter segments it, and
        all rows carry both names, e.g. ``resvit+unet``.
    watch : callable or None, default=None
        Called with the cached subject, the subset and its prediction as each is scored, e.g. to draw it; not for
        subjects that an interrupted evaluation has scored before.

    Returns
    -------
    DataFrame
        The table: columns of `anymri.evaluation.results.COLUMNS`, text as categories.

    Raises
    ------
    UserError
        If model, cache, split, a subset or a subject is unknown, they do not fit together, the device is not there, or
        nothing can be scored.
    """
    asked = EvaluationSettings(
        outputs=outputs,
        windows=WindowSettings(window=window, overlap=overlap, batch_size=batch_size, precision=precision),
        device=device,
        hd95=hd95,
        synthesis=synthesis,
        metrics=metrics,
        downstream=None if downstream is None else str(downstream),
        then=None if then is None else str(then),
    )
    work = Evaluation.prepare(model, cache, asked, subsets=subsets, seed=seed)
    work.reference = None if reference is None else Cache(reference)
    work.watch = watch
    work.choose_subjects(split, fold, part, subjects)
    if save_predictions is not None:
        with one_writer(save_predictions):
            work.saved = SavedPredictions(Path(save_predictions), work.identity(), _saved_facts(work), work.method.spec)
            return _fill_table(work, Path(out), pictures, progress)
    return _fill_table(work, Path(out), pictures, progress)


def _fill_table(work: Evaluation, out: Path, pictures: bool, progress: bool) -> pd.DataFrame:
    """Score all subjects and write the table with its pictures."""
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file, e.g. {out / 'results.parquet'}")
    with one_writer(out, results.parts_folder(out)):
        return _fill_locked_table(work, out, pictures, progress)


def _fill_locked_table(work: Evaluation, out: Path, pictures: bool, progress: bool) -> pd.DataFrame:
    parts = _open_parts(out, work)
    rows = _score_subjects(work, parts, progress)
    if not rows:
        shutil.rmtree(parts)
        raise UserError(
            f"{work.cache.folder}: nothing to score; no chosen subject has a label or a sequence to compare with"
        )
    table = results.write_table(out, rows, work.facts())
    if pictures:
        draw_extremes(work, table, out)
    shutil.rmtree(parts)
    return table


def _saved_facts(work: Evaluation) -> dict[str, Any]:
    """What a reader of saved predictions must know."""
    return {
        "run": work.run,
        "method": work.method.name,
        "dataset": work.dataset,
        "labels": dict(work.method.spec.labels),
        "grid": "of the cache" if work.reference is None else "of the reference cache",
        "completed": "z-scores inside the brain of the given sequences, 0 outside; synthetic",
    }


def _score_subjects(work: Evaluation, parts: Path, progress: bool) -> list[dict[str, Any]]:
    """Rows of all subjects; those that an interrupted evaluation left in `parts` are read, not scored again."""
    subsets = {subject: work.subsets_of(subject) for subject in work.subjects}
    waiting = [subject for subject in work.subjects if not _is_scored(work, subject, parts)]
    predicted = (predict_cases(work, subject) for subject in waiting)
    if work.then is None and work.downstream is None:  # else two networks at once would share one random generator
        predicted = _ahead(predicted)
    with progress_bar("evaluate", sum(map(len, subsets.values())), progress) as bar, closing(predicted):
        for subject in work.subjects:
            if subject not in waiting:
                for _ in subsets[subject]:
                    bar.advance()
        for subject, cases in zip(waiting, predicted, strict=True):
            rows = list(score_subject(work, subject, cases, bar.advance))
            results.write_rows(_part(parts, subject), rows)
    return [row for subject in work.subjects for row in results.read_rows(_part(parts, subject))]


def _ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Items of an iterator; one thread makes the next while the caller works on the last."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item


# --------------------------------------------------------------------------------------------------------------
# Files and progress
# --------------------------------------------------------------------------------------------------------------


def _open_parts(out: Path, work: Evaluation) -> Path:
    """Folder of finished subjects; one that belongs to another model, data set or question is emptied."""
    parts = results.parts_folder(out)
    card, identity = parts / "identity.txt", work.identity()
    if not card.is_file() or card.read_bytes() != identity.encode():
        shutil.rmtree(parts, ignore_errors=True)
        make_folder(parts)
        replace_text(card, identity)
    return parts


def _part(parts: Path, subject: str) -> Path:
    return parts / f"{subject}.parquet"


def _is_scored(work: Evaluation, subject: str, parts: Path) -> bool:
    saved = work.saved is None or work.saved.is_complete(subject, work.subsets_of(subject))
    return _part(parts, subject).is_file() and saved
