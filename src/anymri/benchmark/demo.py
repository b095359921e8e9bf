"""The demonstration: fresh phantoms, a bundled model, every subset of sequences, one report; trains only if asked."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anymri.benchmark.demo_pictures import SubsetPictures
from anymri.errors import UserError
from anymri.files import replace_text

__all__ = ["run_demo"]

#: Phantom subjects of a demonstration, and their voxel edge in mm.
SUBJECTS, SPACING_MM = 3, 2.0
#: Training of ``--train``: a small network on a few phantoms, a few minutes on two cores.
TRAIN_SUBJECTS, TRAIN_EPOCHS, TRAIN_STEPS = 12, 10, 30
#: Its settings, which come with the package.
RECIPE = Path(__file__).parents[1] / "recipes" / "phantom40" / "unet.yaml"
#: A folder with this file in it was made by a demonstration and may be replaced by the next one.
MARKER = ".anymri-demo"


def run_demo(
    out: Path, *, seed: int | None = None, model: str = "default", train_one: bool = False, subjects: int = SUBJECTS
) -> Path:
    """Segment and complete fresh phantoms from every subset of their sequences.

    Parameters
    ----------
    out : Path
        Folder of the demonstration; an earlier demonstration in it is replaced.
    seed : int or None, default=None
        Seed of the phantoms; None draws a fresh one and prints it.
    model : str, default="default"
        Bundled model, weights file or run folder.
    train_one : bool, default=False
        Train a small network on further phantoms first and show it instead of `model`.
    subjects : int, default=3
        Phantoms to make.

    Returns
    -------
    Path
        The report: table of all subsets, and pictures of every subject from each of them.

    Raises
    ------
    UserError
        If `out` is a file or a folder that no demonstration wrote, or there is no such model.
    """
    from rich.console import Console

    from anymri.inference.predict import load, predict_study, write_result

    console = Console(stderr=True, highlight=False)
    out, seed = Path(out), secrets.randbelow(10**6) if seed is None else seed
    _check_place(out)
    opened = None if train_one else load(model)
    _prepare(out)
    console.print(f"[bold]anymri demo[/bold], seed {seed}; repeat it with --seed {seed}")
    console.print(f"1/4 making {subjects} digital brains")
    spacing = None if opened is None else opened.method.facts.spacing_mm
    study, cache = _phantom_cache(out / "phantoms", subjects, seed, spacing)
    if opened is None:
        console.print("2/4 training a small network on further digital brains")
        opened = load(str(_train(out, seed + 1)))
    else:
        console.print(f"2/4 nothing to train: model {opened.name}")
    console.print("3/4 segmenting and completing from all subsets of the sequences")
    page = _report(out, cache, opened.method, seed)
    console.print("4/4 one study with FLAIR only, as a clinic might hand it over")
    write_result(predict_study({"flair": study["flair"]}, opened, completion="always"), out / "flair_only")
    return page


def _check_place(out: Path) -> None:
    """Refuse a file and a folder with other content than an earlier demonstration."""
    foreign = out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists()
    if foreign or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: exists and is not an earlier demonstration; choose another folder with --output")


def _prepare(out: Path) -> None:
    """Empty the folder of an earlier demonstration."""
    from anymri.files import make_folder

    if out.is_dir():
        shutil.rmtree(out)
    (make_folder(out) / MARKER).touch()


def _phantom_cache(
    root: Path, subjects: int, seed: int, spacing_mm: Sequence[float] | None = None
) -> tuple[dict[str, Path], Path]:
    """Phantoms on disk, indexed and preprocessed as anybody's data would be; files of the first one, and the cache."""
    from anymri.data.index import index_dataset, write_subjects
    from anymri.data.preprocess import preprocess
    from anymri.phantom import PhantomSettings, generate

    folder = generate(root / "brats2023", subjects, seed, PhantomSettings(spacing_mm=SPACING_MM))
    found = index_dataset(folder, "brats2023")
    preprocess(write_subjects(root / "subjects.csv", found), root / "cache", spacing_mm=spacing_mm)
    return found[0].images, root / "cache"


def _report(out: Path, cache: Path, method: Any, seed: int) -> Path:
    """Score every subset and make the page, with pictures of the subjects from all subsets below the table."""
    from anymri.benchmark.report import build_report
    from anymri.evaluation import evaluate

    results, pictures = out / "results.parquet", SubsetPictures(method.spec)
    # The distance takes as long as the rest and is not on the page; the pictures show more than the usual three do.
    quick: dict[str, Any] = {"overlap": 0.25, "hd95": False, "pictures": False}
    table = evaluate(method, cache, results, watch=pictures, **quick)
    page = build_report([results], out / "report.html", title=f"anymri demonstration: digital brains, seed {seed}")
    _show(page, pictures.section(table))
    return page


def _show(page: Path, section: str) -> None:
    """Put a section between the table and what follows it."""
    text = page.read_text(encoding="utf-8")
    heading = next(name for name in ('<h2 id="heat">', '<h2 id="provenance">') if name in text)
    replace_text(page, text.replace(heading, section + heading, 1))


def _train(out: Path, seed: int) -> Path:
    """Train the demonstration's own network."""
    from anymri.config import load_run_config
    from anymri.training import train

    _, cache = _phantom_cache(out / "training", TRAIN_SUBJECTS, seed)
    changes = [
        f"data.cache={cache}", "data.split=null", f"training.epochs={TRAIN_EPOCHS}",
        f"training.steps_per_epoch={TRAIN_STEPS}", f"training.seed={seed}", "training.patch=[48, 48, 48]",
        "method.config.lr=0.003",
    ]  # fmt: skip
    return train(load_run_config(RECIPE, changes), out / "run")
