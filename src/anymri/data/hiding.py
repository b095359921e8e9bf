"""Hidden sequences: some of a training subject's, as if they had never been acquired."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from anymri.types import UserError

if TYPE_CHECKING:
    from anymri.data.cache import Cache

__all__ = ["draw_hidden"]


def draw_hidden(
    cache: Cache, subject_ids: Sequence[str], hide: Mapping[str, str | float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Sequences to hide of each subject, to be given to `Cache`.

    Parameters
    ----------
    cache : Cache
    subject_ids : sequence of str
    hide : dict of str to str or float
        Pattern of subject ids to the sequences to hide, e.g. ``"t2+flair"``, or to the probability in (0, 1] with which
        a subject is made incomplete: it keeps one of its non-empty proper subsets, all equally likely. The first
        pattern that fits counts; without one, nothing is hidden.
    seed : int

    Returns
    -------
    dict of str to tuple of str
        Subjects of which something is hidden. A subject's draw depends on the seed, its id and its sequences alone.

    Raises
    ------
    UserError
        If a pattern fits no subject, names an unknown sequence or a share outside (0, 1], or leaves a subject nothing.
    """
    for pattern in hide:
        if not any(fnmatchcase(name, pattern) for name in subject_ids):
            raise UserError(f"data.hide: no training subject fits {pattern!r}; correct the pattern")
    hidden: dict[str, tuple[str, ...]] = {}
    for name in subject_ids:
        fits = [pattern for pattern in hide if fnmatchcase(name, pattern)]
        if not fits:
            continue
        present = tuple(
            code for code, there in zip(cache.spec.modalities, cache.entry(name).present, strict=True) if there
        )
        pattern, rule = fits[0], hide[fits[0]]
        if isinstance(rule, str):
            codes = tuple(code for code in _parse(cache, pattern, rule) if code in present)
            if codes == present:
                raise UserError(f"data.hide: {rule!r} leaves subject {name} no sequence; hide fewer of {pattern!r}")
        elif 0 < rule <= 1:
            codes = _draw(present, rule, f"{seed}/hide/{name}")
        else:
            raise UserError(f"data.hide: the share {rule} of {pattern!r} is not in (0, 1]; write e.g. 0.5")
        if codes:
            hidden[name] = codes
    return hidden


def _parse(cache: Cache, pattern: str, rule: str) -> tuple[str, ...]:
    try:
        return cache.spec.parse_subset(rule)
    except ValueError as error:
        raise UserError(f"data.hide: {pattern}: {error}") from None


def _draw(present: tuple[str, ...], share: float, key: str) -> tuple[str, ...]:
    """What an incomplete subject lacks: the bits of a number that are neither none nor all set."""
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))
    if random.random() >= share or len(present) < 2:
        return ()
    bits = int(random.integers(1, 2 ** len(present) - 1))
    return tuple(code for place, code in enumerate(present) if bits >> place & 1)
