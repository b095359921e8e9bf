"""Verbs of the command that prepare data: keep a cache in order, plan a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli_options import Json, Quiet, Workers, key_values, say
from anymri.errors import UserError


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
    from anymri.data.cleaning import check_cache, clean_cache
    from anymri.data.index import read_subjects

    listed = None if subjects is None else [s.subject_id for s in read_subjects(subjects, check_files=False)]
    state = (clean_cache if clean else check_cache)(folder, listed)
    for reason in state.damaged.values():
        typer.echo(f"damaged: {reason}", err=True)
    values = {
        "subjects": state.subjects, "bytes": state.bytes, "damaged": state.damaged, "not_listed": state.unknown,
        "leftovers": [path.name for path in state.leftovers], "removed": clean,
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


Method = Annotated[str, typer.Option("--method", help="See `anymri methods`.")]
PresetName = Annotated[str, typer.Option("--preset", help="tiny (a laptop) or paper (the published sizes).")]
Spacing = Annotated[
    str | None, typer.Option("--spacing", help="Voxel edge of the cache in mm, one number or D,H,W; default: planned.")
]
Memory = Annotated[
    float | None, typer.Option("--memory", help="GiB a training step may take; default: 60 % of what is free.")
]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE of the configuration, e.g. training.epochs=5; repeatable.")
]


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
    for subject, reason in report.failed.items():
        typer.echo(f"skipped {subject}: {reason}", err=True)
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
