"""Filter and average large results tables without reading what is not asked for.

`anymri.evaluation.results.read_table` gives all rows and columns, right for one run. A benchmark of many methods, folds
and metrics has millions of rows; here pyarrow reads only the columns and row groups that a question needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.evaluation.results import COLUMNS, read_settings
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["mean_by", "select_rows"]


def select_rows(
    paths: Path | str | Iterable[Path | str],
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Rows of one or more results tables.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Files `results.parquet`.
    where : dict or None, default=None
        Column to the value, or to the list of values, that its rows must have.
    columns : sequence of str or None, default=None
        Columns to read; None = all.

    Returns
    -------
    pyarrow.Table
        Text columns are dictionary-encoded, with one dictionary a column.

    Raises
    ------
    UserError
        If a file is missing or unreadable, a page of it was damaged, or a column is unknown.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    files = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
    asked = list(COLUMNS if columns is None else columns)
    unknown = [name for name in [*asked, *(where or {})] if name not in COLUMNS]
    if unknown:
        raise UserError(f"results: no column {unknown[0]!r}; known: {', '.join(COLUMNS)}")
    missing = [path for path in files if not path.is_file()]
    if missing or not files:
        raise UserError(f"{missing[0] if missing else 'results'}: no such results table; make one with anymri evaluate")
    for path in files:
        read_settings(path)  # columns and settings; rows that are not read are not held against their checksum
    condition = None
    for name, value in (where or {}).items():
        values = list(value) if isinstance(value, list | tuple | set) else [value]
        test = pc.field(name).isin(values)
        condition = test if condition is None else condition & test
    pages = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = ds.ParquetFileFormat(default_fragment_scan_options=pages)
    try:
        table = ds.dataset([str(path) for path in files], format=form).to_table(columns=asked, filter=condition)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{files[0]}: not a readable results table ({reason}); make one with anymri evaluate") from None
    return table.unify_dictionaries()


def mean_by(
    paths: Path | str | Iterable[Path | str], by: Sequence[str], where: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Mean, deviation and number of the values of every group.

    Parameters
    ----------
    paths, where
        See `select_rows`.
    by : sequence of str
        Columns whose values make the groups.

    Returns
    -------
    DataFrame
        The columns of `by`, sorted, then ``mean``, ``std`` (of a sample; NaN for one row) and ``n``. Undefined and
        infinite values are left out and do not count.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = select_rows(paths, where, [*by, "value"])
    defined = pc.is_finite(table["value"])
    if not pc.all(defined).as_py():  # a copy of the table is the larger part of the work
        table = table.filter(defined)
    grouped = table.group_by(list(by)).aggregate(
        [("value", "mean"), ("value", "stddev", pc.VarianceOptions(ddof=1)), ("value", "count")]
    )
    grouped = grouped.rename_columns({"value_mean": "mean", "value_stddev": "std", "value_count": "n"})
    for place, name in enumerate(grouped.column_names):
        if pa.types.is_dictionary(grouped.schema.field(name).type):
            text = grouped.column(name).cast(grouped.schema.field(name).type.value_type)
            grouped = grouped.set_column(place, name, text)
    frame = grouped.select([*by, "mean", "std", "n"]).to_pandas()
    return frame.sort_values(list(by), ignore_index=True)
