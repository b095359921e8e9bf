"""Method information: names, references and declarations that the contract suite holds a method to."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["MethodInfo"]


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """Facts about a method: name, family, source, deviations.

    Parameters
    ----------
    title : str
        Name in the paper.
    family : str
        Family of the review's taxonomy, e.g. ``"common latent space"``; ``"baseline"`` for ours.
    task : {"segmentation", "synthesis", "segmentation and synthesis", "classification"}
    year : int
    reference : str
        Short citation.
    doi, arxiv, code : str, default=""
        Identifiers and address of the authors' code, where they exist.
    parity : str, default="none"
        State of the comparison with the authors' code, e.g. ``"none"``, ``"structure"`` or ``"1e-4"``.
    novelty, weakness : str, default=""
        One line each, for the review's Table 1.
    deviations : tuple of str
        Where this implementation departs from paper or released code, one line each.
    untrained : dict of str to str
        Regular expression of parameter names that never receive a gradient, and why.
    learns_from_hidden : dict of str to str
        Regular expression of loss terms that read sequences present but not shown (a teacher, a target), and why.
    couples_rows : str, default=""
        Why the rows of a training batch change each other's features (batch statistics); empty = they do not.
    """

    title: str
    family: str
    task: str
    year: int
    reference: str
    doi: str = ""
    arxiv: str = ""
    code: str = ""
    parity: str = "none"
    novelty: str = ""
    weakness: str = ""
    deviations: tuple[str, ...] = ()
    untrained: dict[str, str] = field(default_factory=dict)
    learns_from_hidden: dict[str, str] = field(default_factory=dict)
    couples_rows: str = ""
