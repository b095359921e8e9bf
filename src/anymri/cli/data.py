"""Data verbs: index, split, preprocess, cache, plan, prepare, datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import Json, Quiet, Seed, Workers, finite, key_values, say, writes
from anymri.errors import UserError

if TYPE_CHECKING:
    from anymri.data.preprocess import PreprocessReport


def cache(
    folder: Annotated[Path, typer.Argument(help="Folder written by `anymri preprocess`.")],
    clean: Annotated[bool, typer.Option("--clean", help="Remove what is damaged, unfinished or not listed.")] = False,
    subjects: Annotated[
        Path | None, typer.Option("--subjects", help="Table of subjects; others in the cache count as not listed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare every byte of a cache with its checksums, and clean it; not while it is being written.

    Example: anymri cache cache --clean --subjects subjects.csv
    """
    from anymri.data.cache_check import check_cache, clean_cache
    from anymri.data.index import read_subjects

    listed = None if subjects is None else [s.subject_id for s in read_subjects(subjects, check_files=False)]
    state = (clean_cache if clean else check_cache)(folder, listed)
    for reason in (*state.damaged.values(), *state.damaged_tables):
        typer.echo(f"damaged: {reason}", err=True)
    values = {
        "subjects": state.subjects, "bytes": state.bytes, "damaged": state.damaged, "not_listed": state.unknown,
        "damaged_tables": state.damaged_tables, "leftovers": [path.name for path in state.leftovers], "removed": clean,
    }  # fmt: skip
    say(
        as_json,
        values,
        f"{state.subjects} whole, {len(state.damaged)} damaged, {len(state.unknown)} not listed, "
        f"{len(state.leftovers)} left-over files{' (all of these removed)' if clean else ''}: "
        f"{folder}, {state.bytes / 2**20:.0f} MiB",
    )
    if state.damaged and not clean:
        raise UserError(f"{folder}: {len(state.damaged)} subjects are damaged; remove them with --clean and preprocess")
    if state.damaged_tables:
        raise UserError(f"{folder / 'tables'}: {len(state.damaged_tables)} files are damaged; write them anew")


Method = Annotated[str, typer.Option("--method", help="See `anymri methods`.")]
PresetName = Annotated[str, typer.Option("--preset", help="tiny (a laptop) or paper (the published sizes).")]
Spacing = Annotated[
    str | None, typer.Option("--spacing", help="Voxel edge of the cache in mm, one number or D,H,W; default: planned.")
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--memory",
        min=0.001,
        max=1e6,
        callback=finite,
        help="GiB a training step may take; default: 60 % of what is free.",
    ),
]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE of the configuration, e.g. training.epochs=5; repeatable.")
]


@writes("output")
def plan(
    subjects: Annotated[Path, typer.Argument(help="Table written by `anymri index`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Configuration to write.")] = Path("run.yaml"),
    method: Method = "unet",
    preset: PresetName = "tiny",
    cache: Annotated[Path, typer.Option("--cache", help="Where the cache will be.")] = Path("cache"),
    split_file: Annotated[Path | None, typer.Option("--split", help="Split file to train by.")] = None,
    spacing: Spacing = None,
    memory: Memory = None,
    override: Override = None,
    as_json: Json = False,
) -> None:
    """Decide on spacing, patch and batch size from the cohort and the memory at hand, before anything is trained.

    Writes a configuration for `anymri train` and beside it the plan with its reasons. What --set, --spacing and
    --memory say, and what is changed in the file, wins.

    Example: anymri plan subjects.csv --method u_hved -o run.yaml; anymri preprocess subjects.csv --plan run.yaml
    """
    from anymri.training.planning import plan_cohort, write_plan

    made = plan_cohort(
        subjects, {"name": method, "preset": preset}, cache, split_file, overrides=override, spacing=spacing,
        memory_gib=memory,
    )  # fmt: skip
    write_plan(output, made)
    say(as_json, {"config": output, **made.summary()}, f"{made.describe()}\nwrote {output}")


@writes("output", kept="finished subjects are kept; the same command goes on")
def prepare(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that is made.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Layout, see `anymri datasets`.")] = "folder",
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", help="MODALITY='GLOB' (or label='GLOB') for the layout `folder`.")
    ] = None,
    method: Method = "unet",
    preset: PresetName = "tiny",
    spacing: Spacing = None,
    memory: Memory = None,
    override: Override = None,
    workers: Workers = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Index, split, plan and preprocess a data set in one go; `anymri train OUTPUT/run.yaml` is next.

    Each step leaves its file in OUTPUT, as if it had been run alone; run again, it goes on where it stopped.

    Example: anymri prepare Dataset001 --dataset nnunet -o work; anymri train work/run.yaml -o work/run
    """
    from anymri.data.index import index_dataset, not_used, summarise, write_subjects
    from anymri.data.missingness import draw_missingness
    from anymri.data.preprocess import preprocess
    from anymri.data.specification import dataset_spec, write_spec
    from anymri.training.planning import plan_cohort, split_small_or_large, write_plan

    found = index_dataset(root, dataset, key_values(pattern, "--pattern", "t1='*_T1.nii.gz'") or None)
    spec = dataset_spec(root, dataset, found)
    table = write_subjects(output / "subjects.csv", found)
    write_spec(table, spec, dataset)
    draw_missingness(found, output / "subjects.png")
    split_file = split_small_or_large(found, output / "split.json")
    made = plan_cohort(
        table, {"name": method, "preset": preset}, output / "cache", split_file, overrides=override, spacing=spacing,
        memory_gib=memory,
    )  # fmt: skip
    config = write_plan(output / "run.yaml", made)
    report = preprocess(
        table, output / "cache", spacing_mm=made.spacing_mm, workers=workers, spec=spec, progress=not quiet
    )
    _tell_skipped(report)
    values = {"config": config, "subjects": len(found), "failed": report.failed, **made.summary()}
    unused = not_used(root, found)
    values["not_used"] = unused
    text = [
        *summarise(unused),
        made.describe(),
        f"{len(found) - len(report.failed)} of {len(found)} subjects are ready in {output}",
    ]
    say(as_json, values, "\n".join([*text, f"next: anymri train {config} -o {output / 'run'}"]))
    if report.failed:
        raise UserError(
            f"{table}: {len(report.failed)} of its subjects could not be read; mend their files, or move them away, "
            "and run the same command again"
        )


def _tell_skipped(report: PreprocessReport) -> None:
    """Name the subjects that are not in the cache, and what was doubtful in others."""
    if report.refused:
        raise UserError(f"{report.refused}; the same command goes on")
    for subject, reason in report.failed.items():
        typer.echo(f"skipped {subject}: {reason}", err=True)
    for subject, doubts in report.doubts.items():
        typer.echo(f"doubtful {subject}: {'; '.join(doubts)}", err=True)


@writes("output")
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

    subjects = index_dataset(root, dataset, key_values(pattern, "--pattern", "t1='*_T1.nii.gz'") or None)
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
    say(
        as_json,
        {"subjects": output, "counts": counts, "picture": drawn, "spec": spec.to_dict(), "not_used": unused},
        "\n".join([*lines, f"wrote {len(subjects)} subjects to {output}", *([f"drew {drawn}"] if drawn else [])]),
    )


@writes("output")
def split(
    subjects: Annotated[Path, typer.Argument(help="Table written by `anymri index`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Split file.")] = Path("split.json"),
    folds: Annotated[
        int, typer.Option("--folds", min=0, max=1000, help="k-fold cross-validation; 0 = one split by --fractions.")
    ] = 0,
    fractions: Annotated[str, typer.Option("--fractions", help="Shares of train, validation, test.")] = "0.7,0.1,0.2",
    validation: Annotated[
        float,
        typer.Option(
            "--validation", min=0, max=0.9, callback=finite, help="--folds: share of the other folds for validation."
        ),
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
    from anymri.data.published_splits import make_published, read_published
    from anymri.data.split import make_split, nnunet_split, write_split

    if published and published.endswith(".json"):
        write_split(output, nnunet_split(published, read_subjects(subjects)))
        say(as_json, {"split": output}, f"wrote {output}; its folds are those of {Path(published).name}")
        return
    if published:
        made = make_published(published, read_subjects(subjects), partial=partial, with_leaks=with_leaks)
        write_split(output, made)
        say(as_json, {"split": output}, f"wrote {output}; source: {read_published(published)['source']}")
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
    say(as_json, {"split": output}, f"wrote {output}")


@writes("output", kept="finished subjects are kept; the same command goes on")
def preprocess(
    subjects: Annotated[Path, typer.Argument(help="Table written by `anymri index`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Cache folder.")] = Path("cache"),
    spacing: Annotated[
        float | None,
        typer.Option(
            "--spacing", min=0.02, max=100, callback=finite, help="Isotropic voxel edge in mm; default: as stored."
        ),
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
    _tell_skipped(report)
    summary = {"cache": output, "done": len(report.done), "skipped": len(report.skipped), "failed": report.failed}
    summary["doubts"] = report.doubts
    say(
        as_json,
        summary,
        f"{len(report.done)} made, {len(report.skipped)} already there, {len(report.failed)} failed: {output}",
    )
    if report.failed:
        raise UserError(
            f"{subjects}: {len(report.failed)} of its subjects could not be read; mend the files named above "
            "and run the same command again"
        )


def datasets(
    splits: Annotated[bool, typer.Option("--splits", help="List the published divisions instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the data set layouts that can be read, or the published divisions of their subjects."""
    from anymri.data.datasets import DATASETS
    from anymri.data.published_splits import published_splits, read_published

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
