"""Check a cache folder and remove what is broken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anymri.data.cache import Cache
from anymri.files import find_leftovers, remove_leftovers
from anymri.locks import one_writer
from anymri.types import UserError

__all__ = ["CacheState", "check_cache", "clean_cache"]

_ARRAYS = (".label.npy", ".npy")


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """What `check_cache` found.

    Parameters
    ----------
    subjects : int
        Whole and undamaged.
    bytes : int
        Of all files.
    damaged : dict of str to str
        Subject id to the reason.
    unknown : tuple of str
        Undamaged subjects that are not in the table.
    leftovers : tuple of Path
        Unfinished files of dead processes, and arrays without a sidecar.
    damaged_tables : tuple of str
        What is wrong with vectors and graphs. They are never removed: no command can make them again.
    """

    subjects: int
    bytes: int
    damaged: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    leftovers: tuple[Path, ...] = ()
    damaged_tables: tuple[str, ...] = ()


def check_cache(folder: Path | str, listed: Iterable[str] | None = None) -> CacheState:
    """Read every byte of a cache and compare it with the checksums.

    Parameters
    ----------
    folder : path-like
    listed : iterable of str or None, default=None
        Subjects that should be there; others are reported as unknown. None = all are known.

    Raises
    ------
    UserError
        If the folder is no cache.
    """
    cache = Cache(folder)
    damaged: dict[str, str] = {}
    for subject_id in cache.subject_ids:
        try:
            cache.verify(subject_id)
        except UserError as error:
            damaged[subject_id] = str(error)
    whole = [subject_id for subject_id in cache.subject_ids if subject_id not in damaged]
    known = set(whole if listed is None else listed)
    return CacheState(
        subjects=len(whole),
        bytes=sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file()),
        damaged=damaged,
        unknown=tuple(subject_id for subject_id in whole if subject_id not in known),
        leftovers=tuple(_leftovers(cache)),
        damaged_tables=tuple(_damaged_tables(cache)),
    )


def clean_cache(folder: Path | str, listed: Iterable[str] | None = None) -> CacheState:
    """Remove damaged and unknown subjects and leftovers; what is whole and known stays.

    Parameters
    ----------
    folder, listed
        As of `check_cache`.

    Returns
    -------
    CacheState
        What was found, and is removed now.

    Raises
    ------
    UserError
        If the folder is no cache or a file cannot be removed.
    """
    with one_writer(folder):
        state = check_cache(folder, listed)
        _remove(Path(folder), state)
    return state


def _remove(folder: Path, state: CacheState) -> None:
    cache = Cache(folder)
    try:
        for part in (cache, *cache.sides()):
            remove_leftovers(part.folder)
        for path in state.leftovers:
            path.unlink(missing_ok=True)
        for subject_id in (*state.damaged, *state.unknown):
            cache.remove(subject_id)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be removed ({error.strerror}); check the permissions") from None


def _damaged_tables(cache: Cache) -> Iterator[str]:
    try:
        tables = cache.tables
    except UserError as error:
        yield str(error)
        return
    if tables is None:
        return
    for subject_id in tables.subject_ids:
        try:
            tables.read(subject_id)
        except UserError as error:
            yield str(error)


def _leftovers(cache: Cache) -> Iterator[Path]:
    """Unfinished files, and those without the sidecar that is written last: a write that was killed before it."""
    for part in (cache, *cache.sides()):
        yield from find_leftovers(part.folder)
        for path in sorted(part.folder.glob("*.*")):
            ending = next((ending for ending in _ARRAYS if path.name.endswith(ending)), None)
            if ending is None and part is not cache and path.suffix == ".json":
                ending = path.suffix
            if ending is not None and path.name.removesuffix(ending) not in cache.subject_ids:
                yield path
