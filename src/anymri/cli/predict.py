"""Verb predict: segment and complete one study or many, aligned brains or as the scanner made them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.batch import say_batch
from anymri.cli.options import Device, Json, Precision, Quiet, Threads, Workers, key_values, use_threads, writes
from anymri.cli.result import say_result
from anymri.errors import UserError

if TYPE_CHECKING:
    from anymri.inference.one_study import PredictSettings, StudySource

StudyFolder = Annotated[
    Path | None, typer.Argument(help="Folder of one study: known file names, BIDS or DICOM; or a zip of DICOM.")
]
T1c = Annotated[Path | None, typer.Option("--t1c", "--t1ce", "--t1gd", help="Contrast-enhanced T1-weighted image.")]
ModelName = Annotated[
    str, typer.Option("--model", "-m", help="Bundled model, weights file, run folder, or folder of per-subset runs.")
]
Labels = Annotated[str, typer.Option("--labels", help="anymri (3 = enhancing) or brats2021 (4 = enhancing).")]
SaveProbabilities = Annotated[
    bool, typer.Option("--save-probabilities", help="Write the probability of each region and the uncertainty, too.")
]
#: Options that prepare raw studies.
Raw = Annotated[bool, typer.Option("--raw", help="The images are as the scanner made them: heads, not aligned.")]
Series = Annotated[
    list[str] | None,
    typer.Option("--series", help="MODALITY=FILE, or MODALITY=NUMBER of a DICOM series; repeatable."),
]
Subset = Annotated[
    str | None,
    typer.Option("--subset", help="Sequences to use of those there are, e.g. t1+flair; the others count as missing."),
]
Skip = Annotated[str, typer.Option("--skip", help="--raw: steps to leave out, of bias,coregistration,template.")]
BrainMask = Annotated[
    str, typer.Option("--brain-mask", help="--raw: auto, template, hd-bet, synthstrip, none or a mask's file.")
]
Session = Annotated[
    str | None,
    typer.Option("--session", "--study", help="Which of several sessions or DICOM studies: its number, date or name."),
]
CheckLabels = Annotated[
    str,
    typer.Option("--check-labels", help="warn, strict (refuse) or off: images that do not look like their sequence."),
]
CompletionChoice = Annotated[
    str, typer.Option("--completion", help="auto (not where measured to be no better than a copy), always or never.")
]
Quality = Annotated[
    str,
    typer.Option("--quality", help="off, warn or drop: sequences spoiled by artifacts; drop counts them as missing."),
]
Normalise = Annotated[str, typer.Option("--normalise", help="--raw: zscore, percentile or histogram.")]
#: Options for many studies.
Batch = Annotated[
    Path | None,
    typer.Option("--batch", help="Many studies: a BIDS data set, a folder of studies, or a table (CSV) of paths."),
]
Shard = Annotated[
    str | None, typer.Option("--shard", help="--batch: part I/N of the studies, the same parts on every machine.")
]
Ray = Annotated[bool, typer.Option("--ray", help="--batch: as Ray tasks, here or on the cluster of RAY_ADDRESS.")]
#: Options of the files that are left.
Outputs = Annotated[
    str, typer.Option("--outputs", help="Formats, e.g. nifti,dicom-seg: nifti, dicom-seg, dicom-mr, bids, surface.")
]
Deidentify = Annotated[
    bool, typer.Option("--deidentify", help="No names of files in the result, and nothing of the person in DICOM.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Say which model and which files, and how many seconds they took.")
]
SegSeries = Annotated[
    str | None, typer.Option("--seg-series", help="dicom-seg: modality whose series it refers to, e.g. flair.")
]


def predict(
    study: StudyFolder = None,
    t1: Annotated[Path | None, typer.Option("--t1", help="T1-weighted image.")] = None,
    t1c: T1c = None,
    t2: Annotated[Path | None, typer.Option("--t2", help="T2-weighted image.")] = None,
    flair: Annotated[Path | None, typer.Option("--flair", help="FLAIR image.")] = None,
    model: ModelName = "default",
    output: Annotated[Path, typer.Option("--output", "-o", help="Result folder.")] = Path("anymri-result"),
    labels: Labels = "anymri",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")] = False,
    batch: Batch = None,
    workers: Workers = 1,
    shard: Shard = None,
    ray: Ray = False,
    raw: Raw = False,
    series: Series = None,
    subset: Subset = None,
    skip: Skip = "",
    brain_mask: BrainMask = "auto",
    normalise: Normalise = "zscore",
    session: Session = None,
    check_labels: CheckLabels = "warn",
    completion: CompletionChoice = "auto",
    quality: Quality = "warn",
    save_probabilities: SaveProbabilities = False,
    outputs: Outputs = "nifti",
    seg_series: SegSeries = None,
    deidentify: Deidentify = False,
    verbose: Verbose = False,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Segment a study, fill in its missing sequences and say how far to trust it; or many studies, with --batch.

    Takes any non-empty subset of sequences: skull-stripped and aligned, or with --raw (DICOM: always) as scanned.

    With --batch finished studies are not done again, a bad one stops no other (exit code 1 tells that there was one),
    and OUTPUT holds volumes.csv and index.html over all of them.

    Example: anymri predict --t1 T1.nii.gz --flair FLAIR.nii.gz -o result
    """
    options = locals().copy()
    from anymri.inference.one_study import StudySource

    images = {code: str(path) for code, path in {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}.items() if path}
    if study is not None and images:
        raise UserError(f"{study}: given beside single files; give a study folder or single files, not both")
    files = images | key_values(series, "--series", "t1=3")
    if batch is None:
        chosen = None if subset is None else tuple(code.strip() for code in subset.split("+"))
        source = StudySource(folder=study, files=files, session=session, subset=chosen)
    elif study is not None or files or session is not None or subset is not None:
        raise UserError(f"--batch {batch}: given beside a single study or a choice in one; give one of the two")
    settings = _settings(options)
    if batch is not None:
        how: dict[str, Any] = {"workers": workers, "threads": threads, "ray": ray, "overwrite": overwrite}
        _predict_many(batch, output, settings, shard, quiet=quiet, as_json=as_json, **how)
        return
    if workers > 1 or shard is not None or ray:
        raise UserError("--workers, --shard and --ray divide many studies; add --batch, or leave them out")
    use_threads(threads)
    _predict_one(source, output, settings, overwrite=overwrite, quiet=quiet, as_json=as_json, verbose=verbose)


@writes("output")
def _predict_one(
    source: StudySource,
    output: Path,
    settings: PredictSettings,
    *,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Predict one study and tell what came of it."""
    from anymri.inference.one_study import predict_to_folder
    from anymri.inference.output.write import check_output
    from anymri.inference.predict import load

    started = monotonic()
    check_output(output, overwrite)
    source.check_settings(settings)
    tell = _silent if quiet or as_json else _tell
    opened = load(settings.model, settings.device)
    if verbose:
        digest = opened.sha256[:12] or "in memory"
        _tell(f"{monotonic() - started:.1f} s: opened model {opened.name}, {opened.method.name}, weights {digest}")
    result = predict_to_folder(source, output, settings, opened, overwrite=overwrite, say=tell)
    if verbose:
        for folder in sorted({path.parent for path in output.rglob("*") if path.is_file()}):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            size = sum(path.stat().st_size for path in files) / 1e6
            names = ", ".join(path.name for path in files[:8]) + (" ..." if len(files) > 8 else "")
            _tell(f"  {folder.relative_to(output)}/: {len(files)} files, {size:.1f} MB ({names})")
        _tell(f"{monotonic() - started:.1f} s: predicted and written")
    say_result(result, output, quiet=quiet, as_json=as_json)


def _predict_many(
    batch: Path, output: Path, settings: PredictSettings, shard: str | None, *, quiet: bool, as_json: bool, **how: Any
) -> None:
    """Predict many studies and tell what became of them."""
    from anymri.inference.batch.run import parse_shard, predict_batch

    part = (1, 1) if shard is None else parse_shard(shard)
    tell = _silent if as_json else _tell
    outcome = predict_batch(batch, output, settings, shard=part, progress=not (quiet or as_json), say=tell, **how)
    say_batch(outcome, as_json=as_json)


def _settings(options: dict[str, Any]) -> PredictSettings:
    """Settings of a prediction among the options of the command, which have the same names."""
    from anymri.inference.one_study import PredictSettings

    chosen = {field.name: options[field.name] for field in fields(PredictSettings) if field.name in options}
    for name in ("skip", "outputs"):
        chosen[name] = tuple(part.strip() for part in options[name].split(",") if part.strip())
    return PredictSettings(**chosen)


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _silent(text: str) -> None:
    """Say nothing."""
