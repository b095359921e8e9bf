"""Missing sequences of a cohort: counted, and drawn at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.files import make_folder, replace_file
from anymri.modalities import MODALITIES
from anymri.types import GLIOMA, Subject

__all__ = ["draw_missingness", "missingness"]


def missingness(subjects: Iterable[Subject]) -> dict[str, int]:
    """How many subjects there are, with a label map, with each modality, and with each exact set of modalities.

    Parameters
    ----------
    subjects : iterable of Subject

    Returns
    -------
    dict of str to int
        ``"subjects"``, ``"label"``, each modality's code, and ``"only <a+b>"`` for each set that occurs, the most
        frequent first.
    """
    subjects = list(subjects)
    counts = {"subjects": len(subjects), "label": sum(subject.label is not None for subject in subjects)}
    codes = [code for code in MODALITIES if code in GLIOMA.modalities or any(code in s.images for s in subjects)]
    counts.update({code: sum(code in subject.images for subject in subjects) for code in codes})
    sets: dict[str, int] = {}
    for subject in subjects:
        name = "only " + "+".join(code for code in MODALITIES if code in subject.images)
        sets[name] = sets.get(name, 0) + 1
    return counts | dict(sorted(sets.items(), key=lambda item: (-item[1], item[0])))


def draw_missingness(subjects: Sequence[Subject], path: Path | str) -> Path:
    """Draw subjects by sequences: dark where there is a file, light where there is none.

    Parameters
    ----------
    subjects : sequence of Subject
        Drawn in order of the set of their sequences, the most frequent set first, then by label map, site and id.
    path : path-like
        PNG file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    codes = [code for code in MODALITIES if any(code in subject.images for subject in subjects)]
    sets = [tuple(code in subject.images for code in codes) for subject in subjects]
    keys = [(s.label is None, s.site, s.subject_id) for s in subjects]
    order = sorted(range(len(subjects)), key=lambda i: (-sets.count(sets[i]), sets[i], keys[i]))
    columns = [*codes, "label"]
    # 0 nothing, 1 image, 2 label map
    cells = np.array([[*sets[i], 2 * (subjects[i].label is not None)] for i in order], dtype=float)
    height = min(12.0, max(1.6, 1.2 + 0.16 * len(subjects)))
    figure = Figure(figsize=(1.6 + 0.75 * len(columns), height), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(_colours(cells), aspect="auto", interpolation="nearest", extent=(0, len(columns), len(order), 0))
    for column in range(1, len(columns)):
        axes.axvline(column, color="white", linewidth=3)
    shares = [f"{name}\n{np.count_nonzero(cells[:, column])}" for column, name in enumerate(columns)]
    axes.set_xticks(np.arange(len(columns)) + 0.5, shares)
    axes.xaxis.tick_top()
    if len(order) <= 60:
        axes.set_yticks(np.arange(len(order)) + 0.5, [subjects[i].subject_id for i in order], fontsize=7)
    else:
        axes.set_ylabel(f"{len(order)} subjects, in groups of equal sequences")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    make_folder(path.parent)
    with replace_file(path) as handle:
        FigureCanvasAgg(figure).print_png(handle, metadata={"Software": None})
    return path


def _colours(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colour (rows, columns, 3) of each cell: light for nothing, dark for an image, orange for a label map."""
    palette = np.array([[0.93, 0.93, 0.93], [0.13, 0.33, 0.53], [0.80, 0.45, 0.10]])
    return palette[cells.astype(int)]
