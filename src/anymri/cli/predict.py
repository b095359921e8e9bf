"""Verb predict: segment and complete one study, aligned brains or as the scanner made it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anymri.cli.options import Device, Json, Precision, Quiet, Threads, key_values, label_scheme, use_threads, writes
from anymri.cli.options import precision as precision_name
from anymri.cli.result import say_result
from anymri.errors import UserError

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
Normalise = Annotated[str, typer.Option("--normalise", help="--raw: zscore, percentile or histogram.")]


@writes("output")
def predict(
    study: StudyFolder = None,
    t1: Annotated[Path | None, typer.Option("--t1", help="T1-weighted image.")] = None,
    t1c: T1c = None,
    t2: Annotated[Path | None, typer.Option("--t2", help="T2-weighted image.")] = None,
    flair: Annotated[Path | None, typer.Option("--flair", help="FLAIR image.")] = None,
    model: ModelName = "default",
    output: Annotated[Path, typer.Option("--output", "-o", help="Result folder.")] = Path("anymri-result"),
    labels: Labels = "anymri",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
    raw: Raw = False,
    series: Series = None,
    skip: Skip = "",
    brain_mask: BrainMask = "auto",
    normalise: Normalise = "zscore",
    session: Session = None,
    check_labels: CheckLabels = "warn",
    save_probabilities: SaveProbabilities = False,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Segment a study, fill in its missing sequences and say how far to trust it.

    Takes any non-empty subset of sequences: skull-stripped and aligned, or with --raw (DICOM: always) as scanned.

    Example: anymri predict --t1 T1.nii.gz --flair FLAIR.nii.gz -o result
    """
    images = {code: path for code, path in {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}.items() if path}
    if study is not None and images:
        raise UserError(f"{study}: given beside single files; give a study folder or single files, not both")
    chosen = key_values(series, "--series", "t1=3")
    if study is None and not images and not chosen:
        raise UserError("no sequence was given; give at least one of --t1, --t1c, --t2, --flair, or a study folder")
    if study is None and session is not None:
        raise UserError(f"--session {session}: chooses in a study folder, and none was given; leave it out")
    from anymri.data.dicom import is_dicom_study
    from anymri.data.index import find_study
    from anymri.data.raw.source import find_raw
    from anymri.data.raw.study import RawOptions
    from anymri.inference.output.write import check_output
    from anymri.inference.predict import load, predict_study, write_result

    check_output(output, overwrite)
    use_threads(threads)
    raw = raw or (study is not None and is_dicom_study(study))
    if not raw and (skip or brain_mask != "auto" or normalise != "zscore"):
        raise UserError("--skip, --brain-mask and --normalise prepare raw studies; add --raw, or leave them out")
    steps = tuple(step.strip() for step in skip.split(",") if step.strip())
    options = RawOptions(skip=steps, brain_mask=brain_mask, normalise=normalise) if raw else None
    opened = load(model, device)
    files = {code: str(path) for code, path in images.items()} | chosen
    given: dict[str, Any] = dict(files)
    notes: tuple[str, ...] = ()
    if raw:
        tell = _silent if quiet or as_json else _tell
        found = find_raw(study, files, opened.method.spec.modalities, tell, session=session)
        given, notes = dict(found.images), found.notes
    elif study is not None:
        listed = find_study(study, session, opened.method.spec.modalities, chosen)
        given, notes = {**listed.images, **chosen}, listed.notes
    result = predict_study(
        given,
        model=opened,
        labels=label_scheme(labels),
        precision=precision_name(precision),
        raw=options,
        notes=notes,
        check_labels=_check_labels(check_labels),
        name=None if study is None else study.resolve().name,
    )
    folder = write_result(result, output, overwrite=overwrite, probabilities=save_probabilities)
    say_result(result, folder, quiet=quiet, as_json=as_json)


def _check_labels(choice: str) -> Any:
    if choice not in ("warn", "strict", "off"):
        raise UserError(f"--check-labels {choice}: unknown; choose warn, strict or off")
    return choice


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _silent(text: str) -> None:
    """Say nothing."""
