"""Damaged inputs: one of the good inputs with damage, used, and held against what the undamaged one gives."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from random import Random
from typing import NamedTuple

from forked import Ending, in_child, in_process
from good_inputs import Input, Outcome


class Verdict(NamedTuple):
    """What became of a damaged input.

    Attributes
    ----------
    what : str
        A key of `VERDICTS`.
    text : str
    """

    what: str
    text: str = ""


class Damage(NamedTuple):
    """What was done to an input.

    Attributes
    ----------
    text : str
    whole : bool
        Whether the damaged file is a whole one that says something else, see `other_content`.
    longer : bool, default=False
        Whether it asks for more work than the good one, so that it may take as long as it does.
    """

    text: str
    whole: bool
    longer: bool = False


#: What may become of a damaged input, in words; from ``silent`` on they are faults.
VERDICTS = {
    "refused": "refused", "same": "same result", "warned": "with a warning", "other content": "another good file",
    "silent": "differs silently", "traceback": "traceback", "abort": "abort", "hang": "hangs", "memory": "memory",
    "left": "litter",
}  # fmt: skip
FAULTS = tuple(VERDICTS)[4:]


class Bench:
    """Folders of good inputs, made once, and what comes of each undamaged one.

    Parameters
    ----------
    folder : Path
        Where they lie.
    forked : bool
        Whether each use is a process of its own.
    """

    def __init__(self, folder: Path, forked: bool) -> None:
        self.folder, self.forked = folder, forked
        self._outcomes: dict[tuple[str, str], Outcome] = {}

    def good(self, item: Input) -> Path:
        """Folder of an undamaged input."""
        place = self.folder / f"{item.kind} {item.name}".replace(" ", "_").replace("/", "_")
        if not place.is_dir():
            made = Path(tempfile.mkdtemp(dir=self.folder))
            with chdir(made):
                item.make(made)
            made.rename(place)
        return place

    def expected(self, item: Input) -> Outcome:
        """What comes of it."""
        key = (item.kind, item.name)
        if key not in self._outcomes:
            place = self.folder / "case"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(self.good(item), place)
            forked, self.forked = self.forked, False  # here, so that later children find everything imported
            ending = self.use(item, place)
            self.forked = forked
            shutil.rmtree(place)
            assert ending.how == "returned", (key, ending)
            self._outcomes[key] = ending.value
        return self._outcomes[key]

    def damage(self, item: Input, random: Random, place: Path) -> Damage:
        """Copy a good input to `place` and damage it."""
        shutil.copytree(self.good(item), place, symlinks=True)
        files = sorted(path for pattern in item.files for path in place.glob(pattern))
        file = random.choice(files)
        way = random.random()
        if way < 0.06:
            told = damage_name(file, random)
            return Damage(told, told.endswith("missing") and file.name in item.optional)
        good = file.read_bytes()
        content, told = item.damage(good, random)
        file.write_bytes(content)
        return Damage(f"{file.relative_to(place)}: {told}", item.whole(good, content), item.longer(good, content))

    def use(self, item: Input, place: Path) -> Ending:
        """Use what lies in a folder."""

        def work() -> Outcome:
            temporary = place / "temporary"
            temporary.mkdir(exist_ok=True)
            tempfile.tempdir = str(temporary)
            with chdir(place):
                return item.use(place)

        before = tempfile.tempdir
        try:
            return in_child(work) if self.forked else in_process(work)
        finally:
            tempfile.tempdir = before

    def judge(self, item: Input, place: Path, damage: Damage) -> Verdict:
        """Use a damaged input and hold what comes of it against what the undamaged one gives."""
        expected = self.expected(item)
        before = content_of(place)
        ending = self.use(item, place)
        if ending.how == "refused":
            if "\n" in ending.text.strip("\n") or not ending.text.strip():
                return Verdict("left", f"several lines: {ending.text}")
            left = [] if item.keeps in ending.text else sorted(content_of(place) - before)
            return (
                Verdict("left", f"{ending.text} (left: {', '.join(left[:5])})")
                if left
                else Verdict("refused", ending.text)
            )
        if ending.how == "hang" and damage.longer:
            return Verdict("other content", ending.text)
        if ending.how != "returned":
            return Verdict(ending.how, ending.text)
        if remains := sorted(str(path.relative_to(place)) for path in (place / "temporary").iterdir()):
            return Verdict("left", f"left: {', '.join(remains[:5])}")
        if ending.value.result == expected.result:
            return Verdict("same", "; ".join(ending.value.notes))
        new = [note for note in ending.value.notes if note not in expected.notes]
        if new:
            return Verdict("warned", "; ".join(new))
        return Verdict("other content" if damage.whole else "silent", f"{expected.result} became {ending.value.result}")


def damage_name(file: Path, random: Random) -> str:
    """Another thing under the name of a file: a folder, a link, nothing, a file that nobody may read."""
    content = file.read_bytes()
    ways = (
        "missing",
        "a folder",
        "a link to nothing",
        "a link to itself",
        "a link out of the folder",
        "a pipe",
        "a folder of files",
        "/dev/zero",
    )
    way = random.choice(ways)
    file.unlink()
    if way == "a folder":
        file.mkdir()
    elif way == "a folder of files":
        file.mkdir()
        (file / file.name).write_bytes(content)
    elif way == "a link to nothing":
        file.symlink_to("nowhere")
    elif way == "a link to itself":
        file.symlink_to(file.name)
    elif way == "a link out of the folder":
        outside = Path(tempfile.mkdtemp(prefix="outside-", dir=file.parents[1])) / file.name
        outside.write_bytes(content)
        file.symlink_to(outside)
    elif way == "a pipe":
        os.mkfifo(file)
    elif way == "/dev/zero":
        file.symlink_to("/dev/zero")
    return f"{file.name}: {way}"


def content_of(place: Path) -> set[str]:
    """Every file below a folder by its name; folders that a test or the refused verb left empty do not count."""
    found = set()
    for above, _, names in os.walk(place):
        found |= {str(Path(above, name).relative_to(place)) for name in names}
    return found
