"""Benchmark verbs: benchmark, report, cost, protocols."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import Json, Quiet, Threads, Workers, say, use_threads, voxels, writes
from anymri.errors import UserError

if TYPE_CHECKING:
    from anymri.benchmark.plan import BenchmarkPlan, Cell


@writes(kept="finished cells and the checkpoints of the others are kept; the same command goes on")
def benchmark(
    plan: Annotated[
        Path, typer.Argument(help="YAML file with data, methods, folds, seeds, training, evaluation and title.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; what is done in it stays done.")],
    ray: Annotated[bool, typer.Option("--ray", help="Run as Ray tasks: several at a time, or on a cluster.")] = False,
    workers: Workers = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the plan, show it with its time, and run nothing.")
    ] = False,
    estimate: Annotated[bool, typer.Option(help="Time two steps of every method first.")] = True,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep results that other code made; the tables mark them.")
    ] = False,
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train and score many methods on the same data: tables, statistics, worth of each sequence, report.

    What is done stays done, unless the code that did it changed: then it is made anew, and one line says so.

    Keys of the plan: data (cache, split, train_part, validation_part, repeat, hide), methods (names, or entries of
    name, preset, config, training, subsets, then), folds, seeds, training (epochs, steps_per_epoch, batch_size, patch,
    sampler, lr, precision, accumulate, ema, augment, foreground, transplants, checkpoint_every, validate_every,
    threads, device, init), evaluation (part, subsets, reference, precision, batch_size, overlap, window, hd95,
    synthesis, pictures, metrics, downstream), title.

    Example: anymri benchmark plan.yaml -o bench --dry-run
    """
    from anymri.benchmark.plan import load_plan, plan_cells
    from anymri.benchmark.run import estimate_seconds, find_problems
    from anymri.benchmark.state import describe_cells, is_waiting
    from anymri.locks import one_writer

    if workers > 1 and not ray:
        raise UserError(f"--workers {workers}: several cells at a time are Ray tasks; add --ray")
    use_threads(threads)
    asked = load_plan(plan)
    cells = plan_cells(asked)
    tell = (lambda text: None) if quiet or as_json else (lambda text: typer.echo(text, err=True))
    with nullcontext() if dry_run else one_writer(output):
        seconds = estimate_seconds(cells, output, tell) if estimate else {}
        told = describe_cells(cells, output, seconds, workers, keep)
        if not dry_run:
            tell(told)
            how: dict[str, Any] = {"ray": ray, "workers": workers, "estimates": seconds, "keep": keep}
            _run(asked, cells, output, how | {"progress": not quiet}, as_json)
    if dry_run:
        problems = find_problems(cells)
        names = {"cells": [c.name for c in cells], "waiting": [c.name for c in cells if is_waiting(c, output, keep)]}
        lines = [told, *(f"would fail: {reason}" for reason in problems.values()), "nothing was run"]
        say(as_json, {**names, "problems": list(problems.values())}, "\n".join(lines))
        if problems:
            raise UserError(f"{plan}: {len(problems)} of its entries cannot run; mend what is named above")


def _run(plan: BenchmarkPlan, cells: list[Cell], output: Path, how: dict[str, Any], as_json: bool) -> None:
    """Run the cells, write what follows from them, and tell it."""
    from anymri.benchmark.outputs import write_outputs
    from anymri.benchmark.run import run_cells

    outcome = run_cells(plan, cells, output, **how)
    page = write_outputs(outcome.tables, output, plan.title) if outcome.tables else None
    lines = [f"failed: {name}: {reason}" for name, reason in outcome.failed.items()]
    lines += [f"wrote {page}"] if page else ["no cell was finished"]
    say(as_json, {"report": page, "done": len(outcome.tables), "failed": outcome.failed}, "\n".join(lines))
    if outcome.failed:
        raise typer.Exit(1)


Preface = Annotated[
    Path | None, typer.Option("--preface", help="Markdown to put under the title of the Markdown page.")
]
Floor = Annotated[str | None, typer.Option("--floor", help="Method that the Markdown page must hold, e.g. a baseline.")]
Rows = Annotated[list[str] | None, typer.Option("--subset", help="Row of the Markdown page; repeatable; default: all.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="NAME=TABLES (a pattern); repeatable: a Markdown page subject by subject."),
]
Regions = Annotated[
    list[str] | None, typer.Option("--region", help="With --column: region to show; repeatable; default: all.")
]


@writes("output", "markdown")
def report(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Results tables, run folders or benchmark folders.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML page; default: report.html, none with --markdown.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    cost: Annotated[Path | None, typer.Option("--cost", help="cost.csv with seconds and memory of the runs.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write this Markdown page with its figure.")
    ] = None,
    preface: Preface = None,
    floor: Floor = None,
    subset: Rows = None,
    column: Columns = None,
    region: Regions = None,
    as_json: Json = False,
) -> None:
    """Make one self-contained page of results tables: the fifteen rows, heat map, ranks, cost, pictures.

    With --markdown, a leaderboard for a repository or a wiki; with --column as well, a few studies one by one.

    Example: anymri report unet.parquet u_hved.parquet -o report.html
    """
    from anymri.benchmark.report import build_report
    from anymri.benchmark.report.leaderboard import find_tables, write_leaderboard
    from anymri.benchmark.report.subject_page import write_subject_page

    only_markdown = {"--preface": preface, "--floor": floor, "--subset": subset, "--column": column, "--region": region}
    only_ranking = {"RESULTS": results, "--output": output, "--floor": floor, "--subset": subset}
    _refuse_options(only_markdown if markdown is None else {}, "add --markdown PAGE.md")
    _refuse_options(only_ranking if column else {"--region": region}, "give either --column with --region or the rest")
    above = "" if preface is None else _read_text(preface)
    pages: list[Path] = []
    if markdown is None or output is not None:
        pages.append(build_report(find_tables(results or ()), output or Path("report.html"), title=title, costs=cost))
    if markdown is not None and column:
        pages.append(write_subject_page(column, markdown, regions=region, title=title or "Results", preface=above))
    elif markdown is not None:
        rows, name = subset or (), title or "Leaderboard"
        pages.append(write_leaderboard(results or (), markdown, title=name, preface=above, floor=floor, subsets=rows))
    say(as_json, {"report": pages[0], "pages": pages}, "\n".join(f"wrote {page}" for page in pages))


def _refuse_options(given: dict[str, Any], remedy: str) -> None:
    for option, value in given.items():
        if value:
            raise UserError(f"{option}: has no effect here; {remedy}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UserError(f"{path}: cannot be read ({reason}); give a Markdown file") from None


@writes("output")
def cost(
    runs: Annotated[list[Path], typer.Argument(help="Run folders or weights files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table of costs.")] = Path("cost.csv"),
    window: Annotated[
        str, typer.Option("--window", help="Size D,H,W in voxels, rounded up to what a network takes.")
    ] = "64,64,64",
    every_subset: Annotated[
        bool, typer.Option("--every-subset", help="Not only all sequences together and each alone.")
    ] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Measure seconds and memory of networks: one window encoded and decoded, for `report --cost`.

    Seconds belong to this machine: measure on an idle one.

    Example: anymri cost bench/runs/* -o bench/cost.csv
    """
    from anymri.benchmark.cost import measure_runs, write_costs

    use_threads(threads)
    size = voxels(window, "--window")
    assert size is not None
    costs = measure_runs(runs, size, every_subset=every_subset)
    write_costs(costs, output)
    say(as_json, {"cost": output, "rows": len(costs)}, f"wrote {output}")


@writes("output")
def protocols(
    model: Annotated[
        str, typer.Argument(help="Run folder, weights file, bundled model, or folder of per-subset runs.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Cache folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown page.")],
    split_file: Annotated[Path | None, typer.Option("--split", help="Split file; default: every subject.")] = None,
    fold: Annotated[int, typer.Option("--fold", min=0, max=1_000_000)] = 0,
    part: Annotated[str, typer.Option("--part", help="train, validation or test.")] = "test",
    subset: Annotated[
        list[str] | None, typer.Option("--subset", help="e.g. t1c+flair; repeatable; default: all.")
    ] = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", min=1, max=1_000_000, help="Only the first so many of the part.")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="What the page calls the data; default: the cache.")] = "",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Score one model by the rules of every published protocol: what the protocol does to the number.

    Example: anymri protocols default --data cache --split split.json -o protocols.md
    """
    from anymri.benchmark.protocol_effects import write_effects

    use_threads(threads)
    table: Any = write_effects(
        model, data, output, split=split_file, fold=fold, part=part, subsets=subset, subjects=subjects, title=title
    )
    say(as_json, {"page": output, "rows": len(table)}, f"wrote {output}")
