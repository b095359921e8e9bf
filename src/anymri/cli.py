"""The command ``anymri``: one verb per arrow of the pipeline, each a thin layer over the Python functions.

Only typer and small modules are imported at the top, so that ``anymri --help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from anymri import cli_benchmark, cli_data, cli_methods, cli_phantom, cli_predict
from anymri.cli_options import Device, Json, Precision, Quiet, Seed, Threads, Workers
from anymri.cli_options import key_values as _key_values
from anymri.cli_options import precision as _precision
from anymri.cli_options import say as _say
from anymri.cli_options import use_threads as _use_threads
from anymri.cli_options import voxels as _voxels
from anymri.errors import UserError

#: Exit code after Ctrl-C, as shells expect it.
INTERRUPTED = 130

app = typer.Typer(
    name="anymri",
    help="Brain MRI with missing sequences: segment, complete, benchmark, train. Research use only.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# ---------------------------------------------------------------------------------------------------- data


app.command()(cli_phantom.phantom)


@app.command()
def index(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Layout, see `anymri datasets`.")] = "folder",
    output: Annotated[Path, typer.Option("--output", "-o", help="Table of subjects.")] = Path("subjects.csv"),
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", help="MODALITY='GLOB' (or label='GLOB') for the layout `folder`.")
    ] = None,
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Draw subjects by sequences, beside the table.")
    ] = True,
    as_json: Json = False,
) -> None:
    """List the subjects of a data set and which sequences each has; opens no image.

    Example: anymri index brains --dataset brats2023 -o subjects.csv
    """
    from anymri.data.datasets.nnunet import nnunet_folder
    from anymri.data.index import index_dataset, not_used, summarise, write_subjects
    from anymri.data.missingness import draw_missingness, missingness
    from anymri.data.specification import dataset_spec, write_spec

    subjects = index_dataset(root, dataset, _key_values(pattern, "--pattern", "t1='*_T1.nii.gz'") or None)
    spec = dataset_spec(root, dataset, subjects)
    write_subjects(output, subjects)
    write_spec(output, spec, dataset)
    drawn = draw_missingness(subjects, output.with_suffix(".png")) if picture else None
    counts = missingness(subjects)
    lines = [f"{name:>24} {count}" for name, count in counts.items()]
    if dataset == "nnunet" and nnunet_folder(root) != root:
        lines.append(f"used {nnunet_folder(root).name}, the one data set in the folder")
    if counts["label"]:
        read_as = ", ".join(f"{value} {name}" for name, value in spec.labels.items())
        guessed = dataset in ("folder", "bids") and not (root / "dataset.yaml").is_file()
        hint = "; if they mean something else, say so in a dataset.yaml in the folder" if guessed else ""
        lines.append(f"label maps are read as {read_as}{hint}")
    unused = not_used(root, subjects)
    lines += summarise(unused)
    _say(
        as_json,
        {"subjects": output, "counts": counts, "picture": drawn, "spec": spec.to_dict(), "not_used": unused},
        "\n".join([*lines, f"wrote {len(subjects)} subjects to {output}", *([f"drew {drawn}"] if drawn else [])]),
    )


@app.command()
def split(
    subjects: Annotated[Path, typer.Argument(help="Table written by `anymri index`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Split file.")] = Path("split.json"),
    folds: Annotated[
        int, typer.Option("--folds", min=0, help="k-fold cross-validation; 0 = one split by --fractions.")
    ] = 0,
    fractions: Annotated[str, typer.Option("--fractions", help="Shares of train, validation, test.")] = "0.7,0.1,0.2",
    validation: Annotated[
        float, typer.Option("--validation", min=0, max=0.9, help="--folds: share of the other folds for validation.")
    ] = 0.0,
    stratify: Annotated[
        str, typer.Option("--stratify", help="site or sequences: every part gets its share of each.")
    ] = "",
    published: Annotated[
        str | None,
        typer.Option(
            "--published", help="A paper's division, see `anymri datasets --splits`; or nnU-Net's splits_final.json."
        ),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="--published: subjects may be missing.")] = False,
    with_leaks: Annotated[
        bool, typer.Option("--with-leaks", help="--published: take it though a patient is in two parts.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Divide the patients into training, validation and test parts.

    Example: anymri split subjects.csv --fractions 0.7,0.1,0.2 -o split.json
    """
    from anymri.data.index import read_subjects
    from anymri.data.published import make_published, read_published
    from anymri.data.split import make_split, nnunet_split, write_split

    if published and published.endswith(".json"):
        write_split(output, nnunet_split(published, read_subjects(subjects)))
        _say(as_json, {"split": output}, f"wrote {output}; its folds are those of {Path(published).name}")
        return
    if published:
        made = make_published(published, read_subjects(subjects), partial=partial, with_leaks=with_leaks)
        write_split(output, made)
        _say(as_json, {"split": output}, f"wrote {output}; source: {read_published(published)['source']}")
        return
    try:
        shares = tuple(float(share) for share in fractions.split(","))
    except ValueError:
        raise UserError(f"--fractions {fractions}: not three numbers; write e.g. 0.7,0.1,0.2") from None
    made = make_split(
        read_subjects(subjects),
        fractions=shares,
        folds=folds or None,
        validation=validation,
        stratify=stratify,
        seed=seed,
    )
    write_split(output, made)
    _say(as_json, {"split": output}, f"wrote {output}")


@app.command()
def preprocess(
    subjects: Annotated[Path, typer.Argument(help="Table written by `anymri index`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Cache folder.")] = Path("cache"),
    spacing: Annotated[
        float | None, typer.Option("--spacing", help="Isotropic voxel edge in mm; default: as stored.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Configuration of `anymri plan`, for its spacing.")
    ] = None,
    workers: Workers = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Normalise every sequence by its own brain and write the memory-mapped cache; resumes where it stopped.

    Subjects that cannot be read are named and left out; the command then ends with exit code 2, the others are kept.

    Example: anymri preprocess subjects.csv --spacing 2 -o cache
    """
    from anymri.data.preprocess import preprocess as build_cache
    from anymri.data.specification import read_spec

    planned: Any = spacing
    if plan is not None and spacing is None:
        from anymri.training.planning import read_plan_spacing

        planned = read_plan_spacing(plan)
    report = build_cache(
        subjects, output, spacing_mm=planned, workers=workers, spec=read_spec(subjects), progress=not quiet
    )
    for subject, reason in report.failed.items():
        typer.echo(f"skipped {subject}: {reason}", err=True)
    summary = {"cache": output, "done": len(report.done), "skipped": len(report.skipped), "failed": report.failed}
    _say(
        as_json,
        summary,
        f"{len(report.done)} made, {len(report.skipped)} already there, {len(report.failed)} failed: {output}",
    )
    if report.failed:
        raise UserError(
            f"{subjects}: {len(report.failed)} of its subjects could not be read; mend the files named above "
            "and run the same command again"
        )


for verb in (cli_data.cache, cli_data.plan, cli_data.prepare):
    app.command()(verb)


@app.command()
def datasets(
    splits: Annotated[bool, typer.Option("--splits", help="List the published divisions instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the data set layouts that can be read, or the published divisions of their subjects."""
    from anymri.data.datasets import DATASETS
    from anymri.data.published import published_splits, read_published

    if splits:
        rows = [{key: text for key, text in read_published(n).items() if key != "folds"} for n in published_splits()]
        lines = [f"{row['name']:<22} {row['title']}\n{'':<22} {row['source']}" for row in rows]
        typer.echo(json.dumps(rows) if as_json else "\n".join(lines))
        return
    if as_json:
        typer.echo(json.dumps([info.to_dict() for info in DATASETS.values()]))
        return
    for name, info in DATASETS.items():
        typer.echo(f"{name:<16} {info.title}\n{'':<16} {'+'.join(info.spec.modalities)}; {info.licence}; {info.where}")


# ---------------------------------------------------------------------------------------------------- training


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Run folder; an unfinished run in it is resumed, one of other code set aside."
        ),
    ],
    init: Annotated[str | None, typer.Option("--init", help="Start from a bundled model or weights file.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. training.epochs=5; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one method; writes checkpoint, resolved configuration, log and weights to the run folder.

    Example: anymri train unet.yaml --set training.epochs=50 -o runs/unet
    """
    from anymri.config import load_run_config
    from anymri.training import train as run_training

    _use_threads(threads)
    settings = list(override or [])
    settings += [f"training.init={init}"] if init else []
    settings += [f"training.seed={seed}"] if seed is not None else []
    run = run_training(load_run_config(config, settings), output, progress=not quiet)
    _say(as_json, {"run": run}, f"trained: {run}")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="Run folder, weights file, bundled model, or folder of per-subset runs.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Cache folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Results table.")] = Path("results.parquet"),
    split_file: Annotated[Path | None, typer.Option("--split", help="Split file; default: every subject.")] = None,
    fold: Annotated[int, typer.Option("--fold", min=0)] = 0,
    part: Annotated[str, typer.Option("--part", help="train, validation or test.")] = "test",
    subset: Annotated[
        list[str] | None, typer.Option("--subset", help="e.g. t1c+flair; repeatable; default: all.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Cache of the same files at their own spacing: score there.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Windows at a time.")] = 1,
    overlap: Annotated[float, typer.Option("--overlap", help="Share that neighbouring windows have in common.")] = 0.5,
    window: Annotated[
        str | None, typer.Option("--window", help="Size D,H,W in voxels, e.g. 64,64,64; default: that of the training.")
    ] = None,
    save_predictions: Annotated[
        Path | None, typer.Option("--save-predictions", help="Folder for label maps and completed images (NIfTI).")
    ] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a model on every subset of sequences; each window is encoded once.

    Example: anymri evaluate runs/unet --data cache --split split.json -o results.parquet
    """
    from anymri.evaluation import evaluate as run_evaluation

    _use_threads(threads)
    table = run_evaluation(
        model, data, output, split=split_file, fold=fold, part=part, subsets=subset, reference=reference,
        batch_size=batch_size, overlap=overlap, window=_voxels(window, "--window"), precision=_precision(precision),
        device=device, save_predictions=save_predictions, progress=not quiet,
    )  # fmt: skip
    dice = table[table.metric == "dice"].groupby("target", observed=True).value.mean()
    lines = [f"{target:<18} mean Dice {value:.3f}" for target, value in dice.items()]
    _say(as_json, {"results": output, "dice": dice.to_dict()}, "\n".join([*lines, f"wrote {output}"]))


app.command()(cli_benchmark.benchmark)
app.command()(cli_benchmark.report)
app.command()(cli_benchmark.cost)
app.command()(cli_benchmark.protocols)


# ---------------------------------------------------------------------------------------------------- prediction


app.command()(cli_predict.predict)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the demonstration.")] = Path("demo"),
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the phantoms; default: a fresh one.")] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Bundled model, weights file, run folder, or folder of per-subset runs."),
    ] = "default",
    train_one: Annotated[bool, typer.Option("--train", help="Also train a small network on phantoms first.")] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Run the main job on fresh phantoms: every subset of sequences segmented and completed, and a report.

    Example: anymri demo --seed 1 -o demo
    """
    from anymri.benchmark.demo import run_demo

    _use_threads(threads)
    page = run_demo(output, seed=seed, model=model, train_one=train_one)
    _say(as_json, {"report": page}, f"done; open {page}")


# ---------------------------------------------------------------------------------------------------- catalogues


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Say everything about this one.")] = None, as_json: Json = False
) -> None:
    """List the published systems and baselines, or describe one: settings, presets, stages, every deviation.

    Example: anymri methods rfnet
    """
    from anymri.methods import describe_method

    if name is not None:
        row = describe_method(name)
        typer.echo(json.dumps(row) if as_json else cli_methods.method_text(row))
        return
    rows = cli_methods.list_all()
    if as_json:
        typer.echo(json.dumps(rows))
        return
    columns = "{:<18} {:<5} {:<23} {:<27} {:<11} {:<20} {:>11} {:>8}  {}"
    typer.echo(columns.format("name", "year", "family", "task", "subsets", "parity", "paper", "tiny", "reference"))
    for row in rows:
        sizes = (f"{row['parameters'][preset]:,}" for preset in ("paper", "tiny"))
        texts = (row[key] for key in ("name", "year", "family", "task", "subsets", "parity"))
        typer.echo(columns.format(*texts, *sizes, row["reference"]))


app.command()(cli_methods.cite)


@app.command()
def models(
    card: Annotated[str | None, typer.Option("--card", help="Print the model card of this model.")] = None,
    as_json: Json = False,
) -> None:
    """List the bundled weights, or print a model card."""
    from anymri.zoo import card_text, find_card, list_models

    if card:
        found = find_card(card)
        typer.echo(json.dumps({**found.to_dict(), "text": found.text}) if as_json else card_text(found))
        return
    rows = [entry.to_dict() for entry in list_models()]
    text = "\n".join(f"{row['name']:<28} {row['method']:<10} {row['summary']}" for row in rows)
    typer.echo(json.dumps(rows) if as_json else text or "no bundled models")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from anymri import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: whatever a user can mend is one line on standard error and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        _refuse(_system_reason(error))
    except Exception as error:
        # The errors of the command line itself (a missing option, a wrong number) carry this method.
        say = getattr(error, "format_message", None)
        if say is None:
            raise
        context = getattr(error, "ctx", None)
        verb = context.command_path if context is not None else "anymri"
        _refuse(f"{say().rstrip('.')}; see {verb} --help")
    if code == INTERRUPTED:
        typer.echo("anymri: interrupted; the same command goes on where it can", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> NoReturn:
    typer.echo("anymri: " + message.replace("\n", " "), err=True)
    sys.exit(2)


def _system_reason(error: OSError) -> str:
    """What the operating system refused, and what to do about it."""
    place, reason = error.filename or "output", error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT):
        return f"{place}: cannot be read or written ({reason}); free some space or choose another place"
    return f"{place}: {reason}; check the path"


if __name__ == "__main__":
    main()
