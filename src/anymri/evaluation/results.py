"""The results table on disk: `results.parquet`, long, one value per row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.evaluation.table_records import check_settings, require_codes
from anymri.files import replace_file
from anymri.records import parse_json, seal
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "COLUMNS", "join_tables", "parts_folder", "read_rows", "read_settings", "read_table", "write_rows", "write_table",
]  # fmt: skip

#: Columns of every results table, in order.
COLUMNS = (
    "run", "protocol", "preset", "method", "dataset", "fold", "seed", "subject", "subset", "target", "metric",
    "value", "unit", "reference_empty", "seen_in_training",
)  # fmt: skip
#: Columns that are not text; text is dictionary-encoded.
NUMBERS = {"fold": "int32", "seed": "int64", "value": "float64", "reference_empty": "bool", "seen_in_training": "bool"}
#: Key of the settings in the file's schema metadata.
METADATA_KEY = b"anymri"
#: What the settings hold beside those of the evaluation.
SEAL = ("format", "rows_sha256", "sha256")
REMEDY = "make one with anymri evaluate"


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
    table = _as_table(rows)
    _write(path, table, settings)
    return table.to_pandas()


def parts_folder(path: Path) -> Path:
    """Folder of the finished subjects of a table; there until the table and its pictures are whole."""
    return path.with_name(path.stem + ".parts")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of one subject, whole or not at all."""
    _write(path, _as_table(rows), {})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows that `write_rows` wrote.

    Raises
    ------
    UserError
        As `read_table`.
    """
    rows: list[dict[str, Any]] = _read(path, "remove the folder around it and evaluate again")[0].to_pylist()
    return rows


def read_table(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a results table and the settings stored with it.

    Raises
    ------
    UserError
        If the file is missing or unreadable, lacks a column, was changed, or holds a value that does not fit.
    """
    table, settings = _read(path, REMEDY)
    return table.to_pandas(), settings


def read_settings(path: Path) -> dict[str, Any]:
    """What is stored beside the rows of a results table, without reading them.

    Raises
    ------
    UserError
        If the file is missing or unreadable, lacks a column, or a setting does not fit.
    """
    import pyarrow.parquet as parquet

    settings = _settings(path, _open(path, parquet.read_schema, REMEDY), REMEDY)
    return {key: value for key, value in settings.items() if key not in SEAL}


def join_tables(paths: Sequence[Path], out: Path) -> None:
    """Write several results tables as one; what was stored beside each is kept under ``tables``.

    Parameters
    ----------
    paths : sequence of Path
        At least one.
    out : Path

    Raises
    ------
    UserError
        As `read_table`.
    """
    import pyarrow as pa

    tables, stored = zip(*(_read(path, REMEDY) for path in paths), strict=True)
    subsets = list(dict.fromkeys(name for settings in stored for name in settings.get("subsets", [])))
    settings = {"modalities": stored[0].get("modalities", []), "subsets": subsets, "tables": list(stored)}
    _write(out, pa.concat_tables(tables).unify_dictionaries(), settings)


def _open(path: Path, read: Callable[[Path], Any], remedy: str) -> Any:
    """What pyarrow reads of a file; a folder would be a data set to it, and a pipe has no end."""
    from pyarrow import ArrowException, Table

    try:
        if path.exists() and not path.is_file():
            raise OSError("no plain file")
        found = read(path)
        if isinstance(found, Table):
            found.validate(full=True)  # indices beyond a dictionary, text that is none: else told where they are used
        if (found.schema if isinstance(found, Table) else found).names:  # decoded only now
            return found
        raise ValueError("no columns")
    except (OSError, ArrowException, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable results table ({reason}); {remedy}") from None


def _read(path: Path, remedy: str) -> tuple[pa.Table, dict[str, Any]]:
    """Rows and settings, checked."""
    import pyarrow.parquet as parquet

    table = _open(path, parquet.read_table, remedy)
    settings = _settings(path, table.schema, remedy)
    table = table.select(list(COLUMNS)).replace_schema_metadata()
    _check_rows(path, table, remedy)
    if settings.get("rows_sha256") not in (None, _digest(table)):
        raise UserError(f"{path}: its rows were changed or damaged (rows_sha256 does not fit); {remedy}")
    return table, {key: value for key, value in settings.items() if key not in SEAL}


def _settings(path: Path, schema: pa.Schema, remedy: str) -> dict[str, Any]:
    """Settings in a table's metadata; none in tables that somebody else wrote."""
    _check_columns(path, schema, remedy)
    settings = parse_json((schema.metadata or {}).get(METADATA_KEY, b"{}"), path, remedy)
    checked = check_settings(settings, path, remedy)
    if checked.format is not None and checked.rows_sha256 is None:
        raise UserError(f"{path}: rows_sha256 is missing; {remedy}")
    return dict(settings)


def _check_columns(path: Path, schema: pa.Schema, remedy: str) -> None:
    import pyarrow.types as kinds

    fits = {"int": kinds.is_integer, "float": kinds.is_floating, "bool": kinds.is_boolean}
    for name in COLUMNS:
        if name not in schema.names:
            raise UserError(f"{path}: has no column {name!r}; expected a table written by anymri evaluate")
        kind, wanted = schema.field(name).type, NUMBERS.get(name, "text").rstrip("0123456789")
        plain = kind.value_type if kinds.is_dictionary(kind) else kind
        if kinds.is_null(plain):  # nothing in it: refused with its rows, if there are any
            continue
        if not (fits[wanted](kind) if wanted in fits else kinds.is_string(plain) or kinds.is_large_string(plain)):
            raise UserError(f"{path}: column {name!r} holds {kind}, not {wanted}; {remedy}")


def _check_rows(path: Path, table: pa.Table, remedy: str) -> None:
    """Refuse unknown values, infinite ones but of PSNR, and subsets of unknown sequences."""
    import numpy as np

    if not table.num_rows:
        return
    for name in COLUMNS:
        if table[name].null_count:
            raise UserError(f"{path}: column {name!r} has {table[name].null_count} empty cells; {remedy}")
    infinite = np.isinf(table["value"].to_numpy())
    if infinite.any():
        metrics = table["metric"].take(np.flatnonzero(infinite)).to_pylist()
        if wrong := [metric for metric in metrics if not metric.startswith("psnr")]:
            raise UserError(f"{path}: column 'value' is infinite for {wrong[0]}; {remedy}")
    for subset in table["subset"].unique().to_pylist():
        try:
            require_codes(subset.split("+"))
        except ValueError as error:
            raise UserError(f"{path}: column 'subset' holds {subset!r}: {error}; {remedy}") from None


def _digest(table: pa.Table) -> str:
    """Sha256 over all values, whatever way they are stored."""
    import numpy as np
    import pyarrow as pa

    digest = hashlib.sha256()
    for name in COLUMNS:
        if name in NUMBERS:
            digest.update(table[name].to_numpy().astype(NUMBERS[name]).tobytes())
            continue
        column = table[name].cast(pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
        parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        for part in parts:
            digest.update(json.dumps(part.dictionary.to_pylist()).encode())
            digest.update(part.indices.to_numpy(zero_copy_only=False).astype(np.int32).tobytes())
    return digest.hexdigest()


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


def _write(path: Path, table: pa.Table, settings: Mapping[str, Any]) -> None:
    import pyarrow.parquet as parquet

    stored = seal({**settings, "format": 1, "rows_sha256": _digest(table)})
    with replace_file(path) as file:
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(stored).encode()})
        parquet.write_table(table, file, write_page_checksum=True)
