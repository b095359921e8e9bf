"""Catalogue verbs: methods, cite, models."""

from __future__ import annotations

import json
import warnings
from itertools import groupby
from typing import Annotated, Any

import typer

from anymri.cli.options import Json

__all__ = ["cite", "list_all", "method_text", "methods", "models"]


def list_all() -> list[dict[str, Any]]:
    """Every method that works; one line on standard error for each plug-in that does not."""
    from anymri.methods import PluginWarning, describe_methods

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PluginWarning)
        rows = describe_methods()
    for warning in caught:
        if issubclass(warning.category, PluginWarning):
            typer.echo(f"warning: {warning.message}", err=True)
    return rows


def cite(
    names: Annotated[list[str] | None, typer.Argument(help="Methods; none = the program itself.")] = None,
    as_json: Json = False,
) -> None:
    """Print what to cite for methods, as BibTeX.

    Example: anymri cite rfnet u_hved > methods.bib
    """
    from anymri.methods import citations

    entries = citations(names or [])
    if as_json:
        rows = [{"type": entry.kind, "key": entry.key, **entry.fields, "bibtex": entry.bibtex()} for entry in entries]
        typer.echo(json.dumps(rows))
        return
    typer.echo("\n\n".join(entry.bibtex() for entry in entries))


def method_text(row: dict[str, Any]) -> str:
    """What is known of one method, as lines of text.

    Parameters
    ----------
    row : dict
        From `anymri.methods.describe_method`.
    """
    sizes = ", ".join(f"{size:,} ({preset})" for preset, size in row["parameters"].items())
    sources = {
        "doi": row["doi"] and f"https://doi.org/{row['doi']}",
        "arxiv": row["arxiv"] and f"https://arxiv.org/abs/{row['arxiv']}",
        "authors' code": row["code"],
    }
    needs = {"complete": "every sequence", "any": "any sequence"}.get(str(row["needs"])) or ", ".join(row["needs"])
    facts = {key: str(row[key]) for key in ("title", "reference", "year", "family", "task")} | sources
    facts |= {"subsets": row["subsets"], "trains on": f"subjects with {needs}", "gives": ", ".join(row["outputs"])}
    facts |= {"parity": row["parity"], "parameters": sizes, "new": row["novelty"], "weak": row["weakness"]}
    lines = [f"{key:<14} {text}" for key, text in facts.items() if text]
    lines += ["", "settings (method.config):"]
    for description, entries in groupby(row["config"], key=lambda entry: entry["description"]):
        lines += [*map(_setting, entries), f"  {'':<22} {description}"]
    for preset, stages in row["stages"].items():
        lines += ["", f"stages, preset {preset}:", *(line for stage in stages for line in _stage(stage))]
    if row["deviations"]:
        lines += ["", "deviations from paper and released code:", *(f"- {text}" for text in row["deviations"])]
    return "\n".join(lines)


def _setting(entry: dict[str, Any]) -> str:
    """One field: value by default, what presets change, and type."""
    changed = [f"{name} {_plain(value)}" for name, value in entry["presets"].items() if value != entry["default"]]
    values = "; ".join([f"default {_plain(entry['default'])}", *changed])
    return f"  {entry['name']:<22} {values}  [{entry['type']}]"


def _stage(stage: dict[str, Any]) -> list[str]:
    crop = "whole volumes"
    if stage["patch"] is not None:
        crop = f"crops {'x'.join(map(str, stage['patch']))} voxels, {stage['foreground']:.0%} of them on a label"
        crop += f", augmentation {stage['augment']}"
    steps = "one pass" if stage["steps_per_epoch"] is None else f"{stage['steps_per_epoch']} steps"
    lines = [
        (
            f"  {stage['name']}: {stage['epochs']} epoch{'s' if stage['epochs'] > 1 else ''} of {steps}, "
            f"batch {stage['batch_size']}, {crop}"
        ),
        f"    subsets by sampler {stage['sampler']}; ends with the {stage['select']} weights",
    ]
    for turn, settings in stage["turns"].items():
        rates = settings.get("group_lr") or [settings["lr"]]
        told = [f"lr {', '.join(f'{rate:g}' for rate in rates)}", f"schedule {settings['schedule']}"]
        told += [f"{key} {_plain(settings[key])}" for key in _used(settings)]
        lines.append(f"    turn {turn}: {settings['optimizer']}, {', '.join(told)}")
    return lines


def _used(settings: dict[str, Any]) -> list[str]:
    """Optimiser settings that have an effect here."""
    by_schedule = {"poly": ["power"], "step": ["step_divisor", "step_count"]}.get(settings["schedule"], [])
    switched = [key for key in ("nesterov", "amsgrad", "hold", "warmup", "clip_norm") if settings[key]]
    return ["weight_decay", "betas", *by_schedule, *switched]


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def methods(
    name: Annotated[str | None, typer.Argument(help="Say everything about this one.")] = None, as_json: Json = False
) -> None:
    """List the published systems and baselines, or describe one: settings, presets, stages, every deviation.

    Example: anymri methods rfnet
    """
    from anymri.methods import describe_method

    if name is not None:
        row = describe_method(name)
        typer.echo(json.dumps(row) if as_json else method_text(row))
        return
    rows = list_all()
    if as_json:
        typer.echo(json.dumps(rows))
        return
    columns = "{:<18} {:<5} {:<23} {:<27} {:<11} {:<20} {:>11} {:>8}  {}"
    typer.echo(columns.format("name", "year", "family", "task", "subsets", "parity", "paper", "tiny", "reference"))
    for row in rows:
        sizes = (f"{row['parameters'][preset]:,}" for preset in ("paper", "tiny"))
        texts = (row[key] for key in ("name", "year", "family", "task", "subsets", "parity"))
        typer.echo(columns.format(*texts, *sizes, row["reference"]))


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
