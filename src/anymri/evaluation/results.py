"""The results table on disk: `results.parquet`, long, one value per row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.files import replace_file
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["COLUMNS", "join_tables", "read_rows", "read_settings", "read_table", "write_rows", "write_table"]

#: Columns of every results table, in order.
COLUMNS = (
    "run", "protocol", "preset", "method", "dataset", "fold", "seed", "subject", "subset", "target", "metric",
    "value", "unit", "reference_empty", "seen_in_training",
)  # fmt: skip
#: Columns that are not text; text is dictionary-encoded.
NUMBERS = {"fold": "int32", "seed": "int64", "value": "float64", "reference_empty": "bool", "seen_in_training": "bool"}
#: Key of the settings in the file's schema metadata.
METADATA_KEY = b"anymri"


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> pd.DataFrame:
    """Write a results table, whole or not at all.

    Parameters
    ----------
    path : Path
    rows : sequence of dict
        With the keys of `COLUMNS`.
    settings : dict
        JSON values kept in the file: versions, modalities, subsets, fingerprints.

    Returns
    -------
    DataFrame
        What was written; text columns are categories.
    """
    table = _as_table(rows).replace_schema_metadata({METADATA_KEY: json.dumps(settings, sort_keys=True).encode()})
    _write(path, table)
    return table.to_pandas()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of one subject, whole or not at all."""
    _write(path, _as_table(rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows that `write_rows` wrote."""
    import pyarrow.parquet as parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def read_table(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a results table and the settings stored with it.

    Raises
    ------
    UserError
        If the file is missing, unreadable, or lacks a column.
    """
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise _unreadable(path, error) from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; expected a table written by anymri evaluate")
    settings = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return table.select(list(COLUMNS)).to_pandas(), settings


def read_settings(path: Path) -> dict[str, Any]:
    """What is stored beside the rows of a results table, without reading them.

    Raises
    ------
    UserError
        If the file is missing or unreadable.
    """
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (OSError, ArrowException) as error:
        raise _unreadable(path, error) from None
    settings: dict[str, Any] = json.loads(metadata.get(METADATA_KEY, b"{}"))
    return settings


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"{path}: not a readable results table ({reason}); make one with anymri evaluate")


def join_tables(paths: Sequence[Path], out: Path) -> None:
    """Write several results tables as one; what was stored beside each is kept under ``tables``.

    Parameters
    ----------
    paths : sequence of Path
        At least one.
    out : Path
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    tables = [parquet.read_table(path) for path in paths]
    stored = [json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}")) for table in tables]
    subsets = list(dict.fromkeys(name for settings in stored for name in settings.get("subsets", [])))
    settings = {"modalities": stored[0].get("modalities", []), "subsets": subsets, "tables": stored}
    joined = pa.concat_tables([table.replace_schema_metadata() for table in tables]).unify_dictionaries()
    _write(out, joined.replace_schema_metadata({METADATA_KEY: json.dumps(settings, sort_keys=True).encode()}))


def _as_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    kinds = {"int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    columns = []
    for name in COLUMNS:
        values = [row[name] for row in rows]
        if name in NUMBERS:
            columns.append(pa.array(values, kinds[NUMBERS[name]]))
        else:
            columns.append(pa.array(values, pa.string()).dictionary_encode())
    return pa.table(columns, names=list(COLUMNS))


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as parquet

    with replace_file(path) as file:
        parquet.write_table(table, file)
