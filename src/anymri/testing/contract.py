"""The contract as tests of pytest, and as one call that prints."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple
from unittest import SkipTest

import torch

from anymri.methods import Method, get_method
from anymri.testing import identity, prediction, training, volumes
from anymri.testing.candidate import Candidate

__all__ = ["CHECKS", "MethodContract", "Outcome", "check_method"]

#: Every check by name: what the contract demands, in the order in which it is checked.
CHECKS: dict[str, Callable[[Candidate], None]] = {
    check.__name__: check for module in (prediction, training, volumes, identity) for check in module.CHECKS
}


class Outcome(NamedTuple):
    """What one check found.

    Attributes
    ----------
    check : str
        Its name in `CHECKS`.
    result : {"passed", "failed", "skipped"}
    words : str
        What is wrong, or why it was skipped.
    """

    check: str
    result: Literal["passed", "failed", "skipped"]
    words: str = ""


def check_method(
    method: str | type[Method], config: dict[str, Any] | None = None, only: str = "", quiet: bool = False
) -> list[Outcome]:
    """Run the contract suite on one method and print a line per check.

    Parameters
    ----------
    method : str or type of Method
        Registry name, or a class that need not be registered.
    config : dict or None, default=None
        Settings beyond those of the preset ``tiny``.
    only : str, default=""
        Run only checks whose name contains it.
    quiet : bool, default=False
        Print nothing.

    Returns
    -------
    list of Outcome

    Examples
    --------
    >>> from anymri.testing import check_method
    >>> [outcome.result for outcome in check_method("threshold", only="says_who", quiet=True)]
    ['passed']
    """
    candidate = Candidate(get_method(method) if isinstance(method, str) else method, config)
    outcomes = []
    for name in CHECKS:
        if only in name:
            outcome = _run(candidate, name)
            outcomes.append(outcome)
            if not quiet:
                print(f"{outcome.result:<8} {name.replace('_', ' ')}" + (outcome.words and f": {outcome.words}"))
    return outcomes


def _run(candidate: Candidate, name: str) -> Outcome:
    try:
        _seeded(candidate, name)
    except SkipTest as reason:
        return Outcome(name, "skipped", str(reason))
    except Exception as error:  # whatever a method raises is what is wrong with it
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return Outcome(name, "failed", f"{kind}{error}".strip())
    return Outcome(name, "passed")


def _seeded(candidate: Candidate, name: str) -> None:
    random.seed(0)
    torch.manual_seed(0)
    # The collector walks over all that torch has loaded, which takes a twentieth of the suite.
    collecting = gc.isenabled()
    gc.disable()
    try:
        CHECKS[name](candidate)
    finally:
        if collecting:
            gc.enable()


class MethodContract:
    """The contract suite as a test class: subclass it, name the method, and pytest finds a test for every check.

    Attributes
    ----------
    name : str
        Registry name of the method.
    method : type of Method or None
        Its class instead, if it is not registered.
    config : dict
        Settings beyond those of the preset ``tiny``.

    Examples
    --------
    >>> class TestMine(MethodContract):
    ...     name = "unet"
    """

    name: ClassVar[str] = ""
    method: ClassVar[type[Method] | None] = None
    config: ClassVar[dict[str, Any]] = {}

    @classmethod
    def candidate(cls) -> Candidate:
        """The method under test, built once a class."""
        if "_candidate" not in cls.__dict__:
            cls._candidate = Candidate(cls.method or get_method(cls.name), cls.config)  # type: ignore[attr-defined]
        return cls.__dict__["_candidate"]

    @classmethod
    def teardown_class(cls) -> None:
        """Forget the method, so that a long run does not keep all of them."""
        if "_candidate" in cls.__dict__:
            del cls._candidate  # type: ignore[attr-defined]


def _as_test(name: str) -> Callable[[MethodContract], None]:
    def test(self: MethodContract) -> None:
        _seeded(self.candidate(), name)

    test.__name__ = f"test_{name}"
    test.__doc__ = CHECKS[name].__doc__
    return test


for _name in CHECKS:
    setattr(MethodContract, f"test_{_name}", _as_test(_name))
