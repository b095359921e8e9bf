"""Method in notebooks: what it is, what it takes and gives, and how it was trained."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymri.protocol.method import Method

__all__ = ["method_html"]


def method_html(method: Method[Any]) -> str:
    """What Jupyter shows of a method instead of the layers of its network.

    Parameters
    ----------
    method : Method

    Returns
    -------
    str
        A table in the colours of the notebook.
    """
    info, facts = method.info, method.facts
    spacing = facts.spacing_mm
    rows = {
        "method": f"{method.name}: {info.title} ({info.reference}, {info.year})",
        "family": info.family,
        "task": info.task,
        "preset": method.config.preset,
        "sequences": ", ".join(method.spec.modalities),
        "subsets": method.subsets if isinstance(method.subsets, str) else ", ".join(method.subsets),
        "outputs": ", ".join(method.outputs),
        "parameters": f"{sum(parameter.numel() for parameter in method.parameters()):,}",
        "trained": "no" if facts.run is None and spacing is None else f"run {facts.run or 'without a name'}",
        "voxels": "any" if spacing is None else " x ".join(f"{size:g}" for size in spacing) + " mm",
        "deviations from the paper": str(len(info.deviations)),
    }
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(key)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    return f"<table>{cells}</table>"
