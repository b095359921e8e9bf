"""Damage to tables, settings, weights and results: CSV, YAML, safetensors, parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from random import Random
from typing import Any

import yaml
from damage import REALS, TEXTS, damage_bytes, damage_json, damage_text, damage_values, flip_bits, odd_value

# --------------------------------------------------------------------------------------------------------------- CSV


def damage_csv(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a table by its cells, rows and columns."""
    way = random.random()
    if way < 0.15:
        return damage_bytes(content, random)
    if way < 0.4:
        return damage_text(content, random)
    text = content.decode()
    mark = "\t" if "\t" in text else ","
    rows = list(csv.reader(io.StringIO(text), delimiter=mark))
    told = []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        line = random.randrange(len(rows))
        place = random.randrange(len(rows[line]) or 1)
        step = random.randrange(6)
        if step == 0:
            rows = [row[:place] + row[place + 1 :] for row in rows]
            told.append(f"column {place + 1} is missing")
        elif step == 1:
            rows = [[*row, *row[place : place + 1]] for row in rows]
            told.append(f"column {place + 1} comes twice")
        elif step == 2:
            rows.append(list(rows[line]))
            told.append(f"line {line + 1} comes again")
        else:
            cell = random.choice((*TEXTS, "nan", "-1", "1e308", "case", "p0", *(c for row in rows for c in row)))
            if place < len(rows[line]):
                rows[line][place] = cell
            told.append(f"line {line + 1}, cell {place + 1} = {cell[:40]!r}")
    out = io.StringIO()
    try:
        csv.writer(out, delimiter=random.choice((mark, mark, mark, ";")), lineterminator="\n").writerows(rows)
        return out.getvalue().encode("utf-8", "surrogatepass"), "; ".join(told)
    except csv.Error:
        return damage_text(content, random)


# -------------------------------------------------------------------------------------------------------------- YAML


def damage_yaml(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a YAML file: of its values, its text, or by what only YAML can do."""
    way = random.random()
    if way < 0.1:
        return damage_bytes(content, random)
    if way < 0.25:
        return damage_text(content, random)
    values = yaml.safe_load(content)
    key = random.choice(list(values))
    if way < 0.5:
        laughs = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
        strange = {
            "entities that grow": laughs.encode() + content,
            "a value that grows": f"{laughs.rstrip()}\n{key}: *a11\n".encode(),
            "an object of Python": content + b"\nx: !!python/object/apply:os.system [echo]\n",
            f"key {key} twice": content
            + f"\n{key}: {json.dumps(odd_value(random, values[key]))}\n".encode("utf-8", "replace"),
            "3000 brackets": content + b"\nx: " + b"[" * 3000 + b"]" * 3000,
            "3000 open brackets": content + b"\nx: " + b"[" * 3000,
            "3000 steps of indentation": content + b"\nx:\n" + b"".join(b" " * n + b"a:\n" for n in range(1, 600)),
            "two documents": content + b"\n---\n" + content,
            "a merge key": f"base: &b {{x: 1}}\n<<: *b\n{content.decode()}".encode(),
            "a list": b"- " + content.replace(b"\n", b"\n  "),
            "a key that is a list": content + b"\n? [1, 2]\n: 3\n",
            "a reference to itself": content + b"\nx: &x [*x]\n",
            "a number of 5000 digits": content + f"\n{key}: {'9' * 5000}\n".encode(),
            "a date": content + f"\n{key}: 2026-13-45\n".encode(),
            "a date that is none": content + b"\nx: 0000-00-00\n",
            "a sum of minutes": content + b"\nx: 1:99:99\n",
        }
        told = random.choice(list(strange))
        return strange[told], told
    changed, told = damage_values(values, random)
    try:
        return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass"), told
    except (yaml.YAMLError, RecursionError, ValueError):
        return damage_text(content, random)


# ------------------------------------------------------------------------------------------------------- safetensors


def damage_safetensors(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a weights file: of its length, its header or its tensors."""
    way = random.random()
    if way < 0.15:
        return damage_bytes(content, random)
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    if way < 0.25:
        length = random.choice((0, 1, size - 1, size + 1, size + 8, len(content), 10**8, 2**31, 2**62, 2**64 - 1))
        return length.to_bytes(8, "little") + content[8:], f"the length of the header is {length}"
    if way < 0.35:
        return flip_bits(content, random, 8, 8 + size)
    if way < 0.45:
        changed, told = flip_bits(content, random, 8 + size)
        return changed, f"{told} (values of tensors)"
    if way < 0.55 and "__metadata__" in header:
        facts = header["__metadata__"]
        key = random.choice(list(facts))
        if facts[key].startswith(("{", "[")):
            text, told = damage_json(facts[key].encode(), random)
            facts[key] = text.decode("utf-8", "replace")
        else:
            facts[key] = random.choice(TEXTS).replace("\ud800", "?")
            told = repr(facts[key])[:60]
        return assemble(header, data), f"metadata {key}: {told}"
    if way < 0.6:
        array = bytearray(data)
        for place in range(4 * random.randrange(4), min(len(array), 4000), 4):
            array[place : place + 4] = random.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f"))
        return assemble(header, bytes(array)), "tensors are not finite"
    if way < 0.9:
        return _tensor_entry(header, data, random)
    changed_values, told = damage_values(header, random)
    return assemble(changed_values, data), told


def _tensor_entry(header: dict[str, Any], data: bytes, random: Random) -> tuple[bytes, str]:
    """The entry of one tensor says something else."""
    names = [name for name in header if name != "__metadata__"]
    name, other = random.choice(names), random.choice(names)
    entry, told = header[name], name
    way = random.randrange(7)
    if way == 0:
        entry["dtype"] = random.choice(("F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "X", ""))
    elif way == 1:
        entry["shape"] = random.choice(
            ([], [0], [2**31, 2**31], [-1], [2**62, 4], [10**6] * 3, entry["shape"][::-1], [*entry["shape"], 1])
        )
    elif way == 2:
        start, end = entry["data_offsets"]
        entry["data_offsets"] = random.choice(
            ([end, start], [0, end], [start, len(data) + 4], [-4, end], [2**63, 2**63 + 4], [start, start])
        )
    elif way == 3:
        del header[name]
        told += " is missing"
    elif way == 4:
        header[f"{name}.extra"] = {**entry}
        told += " comes twice"
    elif way == 5:
        header[name], header[other] = header[other], header[name]
        told += f" exchanged with {other}"
    else:
        header[name + random.choice(("x", "\u00e4", "/../x", "x" * 3000))] = header.pop(name)
        told += " is called otherwise"
    return assemble(header, data), f"{told}: {str(entry)[:100]}"


def assemble(header: Any, data: bytes) -> bytes:
    """A safetensors file of a header and the bytes of the tensors."""
    text = json.dumps(header).encode("utf-8", "replace")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


# ----------------------------------------------------------------------------------------------------------- parquet


def damage_parquet(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a results table: of its bytes, its footer, its columns, its values or what is stored beside them."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    way = random.random()
    if way < 0.25:
        return damage_bytes(content, random)
    if way < 0.45:
        footer = int.from_bytes(content[-8:-4], "little")
        return flip_bits(content, random, len(content) - 8 - footer, len(content))
    if way < 0.5:
        length = random.choice((0, 1, 2**31 - 1, 2**32 - 1, len(content), 7))
        return content[:-8] + length.to_bytes(4, "little") + content[-4:], f"a footer of {length} bytes"
    table = parquet.read_table(io.BytesIO(content))
    if way < 0.7:
        facts, told = damage_json(table.schema.metadata[b"anymri"], random)
        table = table.replace_schema_metadata({b"anymri": facts})
        told = f"metadata: {told}"
    else:
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        told = _damage_columns(columns, random)
        try:
            table = pa.table(
                {name: pa.array(values) for name, values in columns.items()}, metadata=table.schema.metadata
            )
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            return damage_bytes(content, random)
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue(), told


def _damage_columns(columns: dict[str, list[Any]], random: Random) -> str:
    name = random.choice(list(columns))
    way = random.randrange(6)
    rows = len(columns[name])
    if way == 0:
        del columns[name]
        return f"column {name} is missing"
    if way == 1:
        columns[f"{name}2"] = columns[name]
        return f"a column {name}2"
    if way == 2:
        columns[name] = [None] * rows
        return f"column {name} is empty"
    if way == 3:
        columns[name] = [str(value) for value in columns[name]]
        return f"column {name} is text"
    if way == 4:
        for key, values in columns.items():
            columns[key] = random.choice(([], values * 2)) if key == name else values
        count = len(columns[name])
        for key, values in columns.items():
            columns[key] = (values * 2)[:count]
        return f"{count} rows instead of {rows}"
    place = random.randrange(rows)
    old = columns[name][place]
    numbers = (*REALS, math.pi) if isinstance(old, float) else (-1, 0, 99, 2**31 - 1)
    columns[name][place] = random.choice(
        numbers if isinstance(old, (int, float)) else [t for t in TEXTS if "\ud800" not in t]
    )
    return f"{name} of row {place} = {repr(columns[name][place])[:40]}"
