"""Write docs/reference/cli.md from the commands themselves; tests/test_repository.py checks that it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from anymri.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
HEADER = """# Command line

Written by `tools/write_cli_reference.py`; do not edit. One verb for each arrow of the pipeline; `--json` prints the
result for scripts. Exit code 0: done; 2: a mistake the user can mend, said in one line; 1: a bug,
or a benchmark in which a cell failed.
"""


def describe_commands() -> str:
    """The page as Markdown."""
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    parts = [HEADER, *(describe_command(name, command) for name, command in commands.items())]
    return "\n".join(parts)


def describe_command(name: str, command: Any) -> str:
    """One command: what it does, its arguments and options."""
    arguments = [part for part in command.params if part.param_type_name == "argument"]
    options = [
        part for part in command.params if part.param_type_name == "option" and not getattr(part, "hidden", False)
    ]
    usage = " ".join([*(_placeholder(part) for part in arguments), "[OPTIONS]"])
    lines = [f"## anymri {name}", "", f"    anymri {name} {usage}", "", (command.help or "").strip(), ""]
    rows = [(f"`{_placeholder(part)}`", getattr(part, "help", None) or "", "") for part in arguments]
    rows += [(_spelling(part), getattr(part, "help", None) or "", _default(part)) for part in options]
    lines += ["| | what | default |", "|---|---|---|"]
    lines += [f"| {first} | {second} | {third} |" for first, second, third in rows]
    return "\n".join([*lines, ""])


def _placeholder(part: Any) -> str:
    name = (part.name or "").upper()
    name += "..." if part.nargs == -1 else ""
    return name if part.required else f"[{name}]"


def _spelling(part: Any) -> str:
    return ", ".join(f"`{option}`" for option in sorted(part.opts, key=len, reverse=True))


def _default(part: Any) -> str:
    if part.required:
        return "required"
    empty = part.default is None or part.default is False or part.default == [] or callable(part.default)
    return "" if empty or not isinstance(part.default, (str, int, float, Path)) else f"`{part.default}`"


if __name__ == "__main__":
    PAGE.write_text(describe_commands(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
