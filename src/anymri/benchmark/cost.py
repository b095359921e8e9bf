"""Cost of a benchmark's networks: one window encoded and decoded, for all sequences and for each alone.

`anymri cost` measures; `anymri report --cost` and a benchmark that finds ``cost.csv`` in its folder show it beside the
accuracy. Seconds belong to one machine and are never in ``results.parquet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.files import replace_text
from anymri.settings_file import MOST_TABLE_BYTES, check_file
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COST_COLUMNS", "measure_runs", "read_costs", "write_costs"]

#: Columns that a ``cost.csv`` must have.
COST_COLUMNS = ("run", "subset", "parameters", "encode_s", "decode_s", "peak_mb")


def measure_runs(
    runs: Sequence[Path], shape: Sequence[int] = (64, 64, 64), repetitions: int = 3, *, every_subset: bool = False
) -> pd.DataFrame:
    """Cost of the networks of run folders.

    Parameters
    ----------
    runs : sequence of Path
        Run folders or weights files.
    shape : sequence of int, default=(64, 64, 64)
        Window (D, H, W) in voxels, rounded up to a multiple of a network's divisor; a network with a fixed window
        keeps its own.
    repetitions : int, default=3
    every_subset : bool, default=False
        Whether to measure all subsets that a network serves.

    Returns
    -------
    DataFrame
        The fields of `anymri.evaluation.complexity.Cost` and ``run``, one row per run and subset: unless every subset
        is asked for, all sequences together and each alone, as far as the network serves them.
    """
    import pandas as pd

    from anymri.evaluation.complexity import cost_table, measure_costs
    from anymri.inference.live_tensors import check_window
    from anymri.protocol.method import divisors
    from anymri.zoo import open_model

    tables = []
    for run in runs:
        method = open_model(run)
        spec = method.spec
        wanted = [spec.subset_name(spec.modalities), *spec.modalities]
        if every_subset:
            wanted = [spec.subset_name(subset) for subset in spec.subsets()]
        served = wanted if method.subsets == "any" else list(method.subsets)
        steps = zip(shape, divisors(method), strict=True)
        window = method.patch or tuple(step * -(-int(size) // step) for size, step in steps)
        check_window(method, window, 1)
        table = cost_table(measure_costs(method, window, subsets=served, repetitions=repetitions))
        table.insert(0, "run", method.facts.run or method.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def write_costs(costs: pd.DataFrame, path: Path) -> None:
    """Write ``cost.csv``, whole or not at all."""
    replace_text(path, costs.to_csv(index=False, lineterminator="\n"))


def read_costs(path: Path) -> pd.DataFrame:
    """Read ``cost.csv``.

    Raises
    ------
    UserError
        If the file cannot be read or lacks a column.
    """
    import pandas as pd

    try:
        check_file(path, MOST_TABLE_BYTES)
        costs = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a readable table of costs ({reason}); make one with anymri cost") from None
    missing = [name for name in COST_COLUMNS if name not in costs]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; make it with anymri cost")
    for name in COST_COLUMNS[2:]:
        values = pd.to_numeric(costs[name], errors="coerce")
        wrong = costs.index[~((values >= 0) & (values < float("inf")))]
        if len(wrong):
            place = f"{path}, line {wrong[0] + 2}: {name}"
            raise UserError(f"{place} is no number of at least 0; make it with anymri cost")
        costs[name] = values
    return costs
