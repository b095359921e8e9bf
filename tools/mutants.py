"""Break the code in one line at a time and see whether a test notices.

Each mutation of `mutations.toml` names a file, the line as it is, the line as it becomes, the tests that must fail and
why it matters. They are applied one by one to a copy of the tree in a temporary folder; the working tree is never
touched. First the named tests run unbroken, because a test that always fails notices nothing. Exit code 1 if a mutation
survives, no longer fits the code, or breaks more than the tests (say, the import).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("mutations.toml")
TIME_LIMIT_S = 600
#: Imported once; every test run is a fork that has them. Nothing of anymri may be among them.
HEAVY = ["torch", "torch.nn.functional", "nibabel", "scipy.ndimage", "pandas", "pyarrow", "pydantic", "yaml", "pytest"]
FORKS = get_context("forkserver")
PYTEST_FAILED = 1  # pytest's exit code when tests ran and some failed


class Mutation(NamedTuple):
    """One line changed, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    why: str

    def apply(self, source: str) -> str:
        """Changed source text.

        Raises
        ------
        ValueError
            If the line to change is not there exactly once.
        """
        if (count := source.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.file} holds the line {count} times, not once: {self.old!r}")
        return source.replace(self.old, self.new)


def read_mutations() -> list[Mutation]:
    """All mutations of the list, in its order."""
    return [Mutation(name=name, **fields) for name, fields in tomllib.loads(LIST.read_text(encoding="utf-8")).items()]


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need; real studies beside the repository are linked, not copied."""
    tree = folder / "anymri"
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("src", "tests", "tools", "docs"):
        shutil.copytree(ROOT / part, tree / part, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, tree)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return tree


def run_tests(tree: Path, tests: list[str]) -> tuple[int, str]:
    """Exit code of pytest in a copy, and the end of what it said; code 124 means out of time."""
    log = tree / "pytest.log"
    process = FORKS.Process(target=_run_pytest, args=(tree, tests, log))
    process.start()
    process.join(TIME_LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return 124, "out of time"
    code = process.exitcode
    return (1 if code is None else code), log.read_text(encoding="utf-8", errors="replace")[-2000:]


def _run_pytest(tree: Path, tests: list[str], log: Path) -> None:
    """Run pytest on the copy's code in this forked process, which has the heavy libraries already."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    sys.path[:0] = [str(tree), str(tree / "src")]
    # No byte code: two sources of one size written in one second would share it.
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONPATH=str(tree / "src"), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    import pytest

    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
    if "anymri" in sys.modules and not str(sys.modules["anymri"].__file__).startswith(str(tree)):
        code = 3  # another tree was tested
    sys.stdout.flush()
    os._exit(int(code))


def check_mutation(tree: Path, mutation: Mutation) -> tuple[str, str]:
    """Verdict on one mutation (killed, SURVIVED, STALE or BROKEN), and the tests' words where they matter."""
    path = tree / mutation.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutation.apply(source), encoding="utf-8")
    except ValueError as error:
        return "STALE", str(error)
    try:
        code, words = run_tests(tree, mutation.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    if code == PYTEST_FAILED:
        return "killed", ""
    return ("SURVIVED", words) if code == 0 else ("BROKEN", words)


class Trees:
    """Copies of the tree, lent to one job at a time.

    Parameters
    ----------
    folder : Path
        Where the copies are made.
    count : int
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.free: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            self.free.put(copy_tree(folder / str(number)))
        self.pool = ThreadPoolExecutor(count)

    def each(self, work: Callable[[Path, Any], tuple[Any, str]], items: list[Any]) -> Iterator[tuple[Any, str]]:
        """Results of `work` on a copy and an item, in the order of the items."""

        def borrow(item: Any) -> tuple[Any, str]:
            tree = self.free.get()
            try:
                return work(tree, item)
            finally:
                self.free.put(tree)

        return self.pool.map(borrow, items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="mutations tried side by side")
    parser.add_argument("--only", nargs="*", default=[""], help="only mutations whose name contains one of these")
    options = parser.parse_args()
    mutations = [mutation for mutation in read_mutations() if any(part in mutation.name for part in options.only)]
    if not mutations:
        sys.exit(f"mutants: no mutation's name contains {' or '.join(options.only)}")
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is imported
    FORKS.set_forkserver_preload(HEAVY)
    start, verdicts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="anymri-mutants-") as folder:
        trees = Trees(Path(folder), options.jobs)
        # Each list of tests runs as it will run with the mutation.
        lists = [list(tests) for tests in dict.fromkeys(tuple(mutation.tests) for mutation in mutations)]
        for tests, (code, words) in zip(lists, trees.each(run_tests, lists), strict=True):
            if code:
                print(f"{words}\nmutants: {' '.join(tests)} fails without any mutation; mend that first", flush=True)
                verdicts.append("BROKEN")
        for mutation, (verdict, words) in zip(mutations, trees.each(check_mutation, mutations), strict=True):
            verdicts.append(verdict)
            print(f"{verdict:<9} {mutation.name:<40} {mutation.why}", flush=True)
            if words:
                print("    " + words.strip().replace("\n", "\n    "), flush=True)
    killed = verdicts.count("killed")
    print(f"{killed} of {len(mutations)} mutations killed in {time.monotonic() - start:.0f} s")
    sys.exit(killed != len(verdicts))


if __name__ == "__main__":
    main()
