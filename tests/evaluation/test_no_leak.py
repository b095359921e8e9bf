"""What is absent leaves no trace: evaluation with files deleted before `index` equals the simulated subset.

The whole way is taken twice: once with all files, hiding sequences in the evaluator, and once for each subset with the
other files deleted from disk. Probability maps, completed sequences and scores must agree bit for bit, one window at
a time, in single precision. Every sequence of the studies ends elsewhere in the brain, so a box, mask or statistic
taken over all of them would show.
"""

from __future__ import annotations

import shutil
from dataclasses import fields

import numpy as np
import pytest
import torch

from anymri.data.cache import Cache
from anymri.data.datasets.brats2023 import LAYOUT
from anymri.data.index import index_dataset, write_subjects
from anymri.data.preprocess import preprocess
from anymri.evaluation.score_subject import predict_entry
from anymri.evaluation.setup import Evaluation, EvaluationSettings
from anymri.methods import PerSubsetModels, create, get_method, list_methods
from anymri.protocol.facts import TrainingFacts
from anymri.types import GLIOMA

SUBSETS = GLIOMA.subsets()
NAMES = [GLIOMA.subset_name(subset) for subset in SUBSETS]
WINDOW = (16, 16, 16)
#: Settings for methods that take whole slices: few windows, few channels; and fewer levels for those of most modules.
SMALLER: dict[str, dict] = {
    **{
        name: {"size": (96, 96), "width": 2, "hidden": 8, "heads": 2, "layers": 1, "mlp": 8, "judge_width": 2}
        for name in ("resvit", "resvit_unified")
    },
    "cg_mcg": {"widths": (2, 4)},
    "cwdm": {"widths": (8, 8), "groups": 4, "steps": 2},
    "fgmf": {"widths": (2, 4)},
    "hf_gan": {"multipliers": (1, 1, 2), "layers": 1},
    "lce_net": {"widths": (2, 4)},
    "rfnet": {"widths": (4, 8, 12), "hidden": 16},
    "robust_seg": {"widths": (4, 8, 12), "style_widths": (4, 4, 4)},
    "u_hved": {"widths": (4, 8, 12)},
}


@pytest.fixture(scope="module")
def deleted(three, tmp_path_factory) -> dict[str, Cache]:
    """For each subset a cache made from a copy of the files in which only that subset's are left."""
    complete = three.names[:2]
    root = tmp_path_factory.mktemp("deleted")
    caches = {}
    for name, subset in zip(NAMES, SUBSETS, strict=True):
        files = root / name / "files"
        for subject in complete:
            shutil.copytree(three.cache.folder.parent / "files" / subject, files / subject)
            for code in set(GLIOMA.modalities) - set(subset):
                (files / subject / f"{subject}-{LAYOUT.suffixes[code]}.nii.gz").unlink()
        write_subjects(root / name / "subjects.csv", index_dataset(files, "brats2023"))
        preprocess(root / name / "subjects.csv", root / name / "cache", spacing_mm=2.0, progress=False)
        caches[name] = Cache(root / name / "cache")
    return caches


def _open(name: str, cache: Cache, three, subsets=SUBSETS) -> Evaluation:
    """Registry method with seeded random weights; what training would fill in is plausible.

    A system with one network per subset is the family of those for `subsets`.
    """

    def build(**config):
        torch.manual_seed(0)
        method = create(name, preset="tiny", **SMALLER.get(name, {}), **config)
        for key, buffer in method.named_buffers():
            if key == "median_statistics":
                buffer.copy_(torch.from_numpy(three.cache.entry(three.names[0]).statistics)[None])
        return method

    if get_method(name).subsets == "per-subset":
        method = PerSubsetModels({GLIOMA.subset_name(s): build(subset=GLIOMA.subset_name(s)) for s in subsets})
    else:
        method = build()
    method.facts = TrainingFacts(window=WINDOW)
    return Evaluation.prepare(method, cache, EvaluationSettings())


def _predict(work: Evaluation, subject: str, subsets) -> dict:
    torch.use_deterministic_algorithms(True)
    try:
        parts = [predict_entry(work, *part, work.method.outputs) for part in work.cache.entries(subject, subsets)]
        found = {subset: prediction for part in parts for subset, prediction in part}
        return {subset: found[subset] for subset in subsets}
    finally:
        torch.use_deterministic_algorithms(False)


def _scores(work: Evaluation, subject: str, subset, prediction) -> list[str]:
    """Scores as text: NaN equals NaN, and every bit of a value shows."""
    from anymri.evaluation.scoring import score_regions
    from anymri.inference.labels import regions

    entry = work.cache.entry(subject, subset)
    found = regions(prediction.probability, work.method.head, work.spec)
    return [repr(score) for score in score_regions(found, np.asarray(entry.label), work.spec, entry.spacing_mm)]


def test_the_sequences_of_the_studies_end_in_different_places(three):
    """Without this the tests below could not fail."""
    for subject in three.names[:2]:
        boxes = three.cache.entry(subject).boxes
        assert len({tuple(box.ravel()) for box in boxes}) == 4
        shape = np.array(three.cache.entry(subject).image.shape[1:])
        assert (shape > WINDOW).any(), "more than one window"


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_of_what_is_left_is_the_same_bytes(three, deleted, name):
    subset = GLIOMA.parse_subset(name)
    for subject in three.names[:2]:
        whole, left = three.cache.entry(subject, subset), deleted[name].entry(subject)
        channels = [GLIOMA.index(code) for code in subset]
        assert left.image[channels].tobytes() == whole.image[channels].tobytes()
        assert left.statistics[channels].tobytes() == whole.statistics[channels].tobytes()
        assert np.array_equal(left.boxes[channels], whole.boxes[channels])
        assert left.label.tobytes() == whole.label.tobytes()
        absent = [i for i in range(4) if i not in channels]
        assert np.isnan(np.asarray(left.image)[absent]).all()


def _served_by(cls) -> list:
    """Subsets that a method serves: so many sequences as it takes, and one left where it makes one."""
    counts = range(1, 5) if cls.source_count is None else [cls.source_count]
    one_target = any(field.name == "target" for field in fields(cls.Config))
    return [subset for subset in SUBSETS if len(subset) in counts and not (one_target and len(subset) == 4)]


@pytest.mark.parametrize("method", list_methods())
def test_deleted_files_give_the_simulated_subset_bit_for_bit(three, deleted, method):
    cls = get_method(method)
    served = _served_by(cls)
    assert served
    simulated = _open(method, three.cache, three, served)
    for subject in three.names[:2]:
        hidden = _predict(simulated, subject, served)
        assert list(hidden) == served
        for subset in served:
            name = GLIOMA.subset_name(subset)
            real = _open(method, deleted[name], three, [subset])
            assert real.subsets_of(subject)[-1] == subset, "the largest subset that is left"
            alone = _predict(real, subject, [subset])[subset]
            _assert_equal(hidden[subset], alone, f"{method}, {subject}, {name}")
            if alone.probability is not None:
                assert _scores(simulated, subject, subset, hidden[subset]) == _scores(real, subject, subset, alone)


def _assert_equal(first, second, where: str) -> None:
    for part in ("box_probability", "box_image", "synthesised"):
        a, b = getattr(first, part), getattr(second, part)
        assert (a is None) == (b is None), f"{where}: {part}"
        if a is not None:
            assert a.shape == b.shape, f"{where}: {part}"
            assert a.numpy().tobytes() == b.numpy().tobytes(), f"{where}: {part}"
    assert (first.start, first.stop) == (second.start, second.stop), where


def _shares_windows(cache: Cache, subject: str) -> str:
    """A subset that lies on the grid and in the frame of a larger one, so that windows are encoded with more shown."""
    places = {}
    for subset in SUBSETS:
        entry = cache.entry(subject, subset)
        frame, _ = entry.frame([GLIOMA.index(code) for code in subset])
        places[subset] = (entry.lattice, frame.tolist())
    return next(
        name
        for name, subset in zip(NAMES, SUBSETS, strict=True)
        if any(set(subset) < set(other) and places[subset] == places[other] for other in SUBSETS)
    )


@pytest.mark.parametrize("leak", ["box", "grid", "value"])
def test_a_leak_would_be_found(three, deleted, mean_method, monkeypatch, leak):
    """The comparison fails for a box or a grid by all present sequences, and for a method that peeks."""
    subject = three.names[0]
    name = _shares_windows(three.cache, subject) if leak == "value" else "t1"
    mean_method.facts = TrainingFacts(window=WINDOW)
    if leak == "value":
        decode = type(mean_method).decode
        everything = torch.ones(1, 4, dtype=torch.bool)
        monkeypatch.setattr(
            type(mean_method), "decode", lambda self, f, available, *rest: decode(self, f, everything, *rest)
        )
    works = [Evaluation.prepare(mean_method, cache, EvaluationSettings()) for cache in (three.cache, deleted[name])]
    if leak == "box":
        entry = Cache.entry

        def leaky(self, subject_id, subset=None):
            found = entry(self, subject_id, subset)
            union = found.boxes[found.present]
            boxes = np.stack([union[:, 0].min(0), union[:, 1].max(0)])
            return found._replace(boxes=np.repeat(boxes[None], 4, axis=0))

        monkeypatch.setattr(Cache, "entry", leaky)
    subset = GLIOMA.parse_subset(name)
    if leak == "grid":
        whole = Cache.entry
        monkeypatch.setattr(Cache, "entry", lambda self, subject_id, subset=None: whole(self, subject_id))
    every = SUBSETS if leak == "value" else [subset]
    hidden, alone = _predict(works[0], subject, every)[subset], _predict(works[1], subject, [subset])[subset]
    with pytest.raises(AssertionError):
        _assert_equal(hidden, alone, "leak")
