"""Kill campaign: every verb that writes is killed at many moments and started again: same bytes, nothing left behind.

    .venv/bin/python tools/kill_campaign.py --seed 0 --kills 20 -o docs/results/kill-and-restart.md

One process imports everything once; every command is a child of it. Half of the kills come after a drawn amount of
processor time, from outside; the others just before a drawn operation on files (opening to write, renaming, removing,
making a folder), where a kill can do most harm. Each time the same command is started again until it is done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Operations on files that a kill comes just before.
FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
#: Longest a command may take, in seconds of the clock; the machine may be busy.
LONGEST_S = 900
#: Seconds of the clock that workers may outlive their killed command.
WORKERS_S = 60
#: How verbs refuse to write over what is whole.
DONE = ("is not empty", "exists already")
#: What differs between two unbroken runs as well, and is left out of the comparison.
TIMES = {
    "bench/log.jsonl": "clock times of the cells",
    "seconds": "how long an epoch took, in a training's log.jsonl",
    "log_bytes": "length of that log, in a checkpoint; the checkpoint's sha256 in checkpoint.json follows it",
    "sha256": "that one",
    "cost.csv": "seconds and memory that were measured",
}


@dataclass
class Verb:
    """One command that writes.

    Parameters
    ----------
    name : str
    arguments : list of str
        Relative to the folder it runs in.
    alone : bool, default=True
        Whether it has no workers. Operations on files of one that has some come in no fixed order; it is killed after a
        share of its processor time alone.
    """

    name: str
    arguments: list[str]
    alone: bool = True


@dataclass
class Row:
    """What became of a verb."""

    verb: str
    kills: int = 0
    moments: set[Any] = field(default_factory=set)
    equal: int = 0
    left: set[str] = field(default_factory=set)
    alone: str = "-"
    clock: str = "-"
    terminated: str = "-"


class Campaign:
    """Runs commands as children, in one folder that is emptied before each trial.

    Parameters
    ----------
    work : Path
        Empty folder.
    seed : int
    """

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.random = work, random.Random(seed)
        self.trial, self.scratch = work / "trial", work / "scratch"
        for folder in (self.trial, self.scratch):
            folder.mkdir()
        self.known: set[str] = set()  # what imports leave in the folder for temporary files: a cache of torch
        self.started: list[int] = []  # processes of the trial, each with a session of its own
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.scratch)

    def start(self, verb: Verb, before: Callable[[], None] = lambda: None) -> int:
        """Start a command in the trial's folder; returns the number of its process."""
        child = os.fork()
        if child:
            self.started.append(child)
            return child
        code = 1
        try:
            os.setsid()
            os.chdir(self.trial)
            output = os.open(self.work / f"said-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(output, stream)
            sys.argv = ["anymri", *verb.arguments]
            before()
            from anymri.cli import main

            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def finish(self, child: int) -> tuple[int, str]:
        """Exit code (negative: the signal that ended it) and what it said."""
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = self.work / f"said-{child}"
        text = said.read_text(errors="replace") if said.is_file() else ""
        said.unlink(missing_ok=True)
        return code, text

    def run(self, verb: Verb, before: Callable[[], None] = lambda: None) -> str:
        """Run a command to its end, which must be a good one."""
        code, text = self.finish(self.start(verb, before))
        if code:
            raise SystemExit(f"anymri {' '.join(verb.arguments)}: exit code {code}\n{text}")
        return text

    def again(self, verb: Verb) -> None:
        """Run a command that was killed to its end; it may find that it was done."""
        code, text = self.finish(self.start(verb))
        if code and not any(words in text for words in DONE):
            raise SystemExit(f"anymri {' '.join(verb.arguments)}: exit code {code}\n{text}")

    def warm(self, verb: Verb) -> None:
        """Run a command in this process, so that its children have all imports and tables at hand."""
        from anymri.cli import main

        here, sys.argv = Path.cwd(), ["anymri", *verb.arguments]
        os.chdir(self.trial)
        try:
            main()
        except SystemExit as stop:
            if stop.code:
                raise
        finally:
            os.chdir(here)

    def empty(self) -> None:
        """Empty the folder of the trial."""
        self.started.clear()
        shutil.rmtree(self.trial)
        self.trial.mkdir()

    def state(self) -> dict[str, str]:
        """Checksum of every file, without what TIMES names; folders too."""
        found = {}
        for path in sorted(self.trial.rglob("*")):
            name = str(path.relative_to(self.trial))
            if path.is_dir():
                found[name + "/"] = ""
            elif (name not in TIMES or name == "cost.csv") and "events.out.tfevents" not in name:
                found[name] = hashlib.sha256(_content(path)).hexdigest()
        return found

    def left(self, expected: dict[str, str]) -> set[str]:
        """Names that an unbroken run does not leave, in the folder and in that for temporary files."""
        scratch = {f"scratch: {path.name}" for path in self.scratch.iterdir() if path.name not in self.known}
        return set(self.state()) - set(expected) | scratch | self._workers()

    def _workers(self) -> set[str]:
        """Workers that outlive their killed command by `WORKERS_S`; they are ended."""
        end = time.monotonic() + WORKERS_S
        while (alive := _of_sessions(self.started)) and time.monotonic() < end:
            time.sleep(0.2)
        for worker in alive:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        return {"a worker"} if alive else set()


def _of_sessions(leaders: list[int]) -> list[int]:
    """Processes of sessions that are still there."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) in leaders:
                found.append(int(place.name))
    return found


def _content(path: Path) -> bytes:
    """Bytes of a file; of a training's log and checkpoints what is left without TIMES."""
    if path.name == "log.jsonl":
        return repr([_timeless(json.loads(line)) for line in path.read_text().splitlines()]).encode()
    if path.name == "checkpoint.json":
        return repr(_timeless(json.loads(path.read_text()))).encode()
    if path.name == "cost.csv":  # what was measured differs, by how many rows and columns it was does not
        return repr([line.split(",")[:3] for line in path.read_text().splitlines()]).encode()
    if path.suffix == ".pt":
        import torch

        return repr(_timeless(torch.load(path, weights_only=True))).encode()
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    """Values without what TIMES names, and tensors by their bytes."""
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [_timeless(inner) for inner in value]
    return value.numpy().tobytes() if hasattr(value, "numpy") else value


def _watch_files(act: Callable[[int, str], None]) -> None:
    """Call ``act(number, event)`` just before every operation on files of this process."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in FILE_EVENTS:
            count += 1
            act(count, event)

    sys.addaudithook(hook)


def _processor_s(child: int) -> float:
    """Processor time of all threads of a child, in seconds."""
    total = 0
    with suppress(OSError, ValueError):
        for task in Path(f"/proc/{child}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _signal_after(child: int, seconds: float, number: int) -> bool:
    """Send a signal to a child once it has used so much processor time; False if it ended before."""
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        if _processor_s(child) >= seconds:
            os.kill(child, number)
            return True
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.001)
    raise SystemExit("a command took too long")


def measure(campaign: Campaign, verb: Verb) -> tuple[dict[str, str], float, int]:
    """State after an unbroken run, its processor time in seconds, and its number of operations on files."""
    campaign.empty()
    note = campaign.work / "events"

    def count() -> None:
        own = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def write(number: int, event: str) -> None:
            os.pwrite(own, str(number).encode(), 0)

        _watch_files(write)

    child = campaign.start(verb, count)
    begin = 0.0
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        begin = max(begin, _processor_s(child))
        time.sleep(0.002)
    code, text = campaign.finish(child)
    if code:
        raise SystemExit(f"anymri {' '.join(verb.arguments)}: exit code {code}\n{text}")
    return campaign.state(), begin, int(note.read_text() or 0)


def _deaths(campaign: Campaign, verb: Verb, processor_s: float, events: int, kills: int) -> Iterator[Any]:
    """Start the verb in an emptied folder and kill it, again and again; yields the moment of each death."""
    numbers = campaign.random.sample(range(1, events + 1), min(kills // 2, events)) if verb.alone else []
    for number in numbers:
        campaign.empty()

        def die(at: int = number) -> None:
            _watch_files(lambda now, event: os.kill(os.getpid(), signal.SIGKILL) if now == at else None)

        code, text = campaign.finish(campaign.start(verb, die))
        if code != -signal.SIGKILL:
            raise SystemExit(f"{verb.name}: was not killed at operation {number} but ended with {code}\n{text}")
        yield f"operation {number}"
    done = len(numbers)
    while done < kills:
        campaign.empty()
        moment = campaign.random.uniform(0, processor_s)
        child = campaign.start(verb)
        killed = _signal_after(child, moment, signal.SIGKILL)
        code, text = campaign.finish(child)
        if killed and code == -signal.SIGKILL:
            done += 1
            yield f"{moment:.4f} s"
        elif code:
            raise SystemExit(f"{verb.name}: ended with {code}\n{text}")


def kill_and_restart(campaign: Campaign, verb: Verb, kills: int) -> Row:
    """All trials of one verb."""
    campaign.empty()
    campaign.warm(verb)
    expected, processor_s, events = measure(campaign, verb)
    row = Row(verb.name)
    for moment in _deaths(campaign, verb, processor_s, events, kills):
        row.kills += 1
        row.moments.add(moment)
        campaign.again(verb)
        row.left |= campaign.left(expected)
        same = campaign.state() == expected
        row.equal += same
        if not same:
            print(f"{verb.name}, {moment}: {_difference(campaign.state(), expected)}", file=sys.stderr)
    row.alone = _two_at_once(campaign, verb, expected)
    row.clock = _clock_set_back(campaign, verb, expected, events, processor_s)
    row.terminated = _terminate(campaign, verb, expected, processor_s)
    row.left |= campaign.left(expected)
    print(f"{processor_s:.2f} s, {events} operations:", row, file=sys.stderr, flush=True)
    return row


def _difference(found: dict[str, str], expected: dict[str, str]) -> str:
    return ", ".join(sorted(name for name in set(found) | set(expected) if found.get(name) != expected.get(name)))


def _two_at_once(campaign: Campaign, verb: Verb, expected: dict[str, str]) -> str:
    """The first holds still once it has the lock, while the second is tried; then it goes on."""
    campaign.empty()

    def hold() -> None:
        def stop(number: int, event: str) -> None:
            if not held and any(lock.stat().st_size for lock in campaign.trial.glob(".*.anymri-lock")):
                held.append(number)
                os.kill(os.getpid(), signal.SIGSTOP)

        held: list[int] = []
        _watch_files(stop)

    first = campaign.start(verb, hold)
    os.waitid(os.P_PID, first, os.WSTOPPED)
    code, text = campaign.finish(campaign.start(verb))
    refused = code == 2 and text.count("\n") == 1 and "is writing there" in text and str(first) in text
    os.kill(first, signal.SIGCONT)
    done, _ = campaign.finish(first)
    good = refused and done == 0 and campaign.state() == expected
    return "one, one refused" if good else f"FAILED ({code}, {done}): {text.strip()[:200]}"


def _clock_set_back(campaign: Campaign, verb: Verb, expected: dict[str, str], events: int, processor_s: float) -> str:
    """Killed in the midst, all files dated a year ahead, the clock a year back, and started again."""
    campaign.empty()

    def die() -> None:
        _watch_files(lambda now, event: os.kill(os.getpid(), signal.SIGKILL) if now == (events + 1) // 2 else None)

    def back() -> None:
        real = time.time
        time.time = lambda: real() - 365 * 86400.0

    if verb.alone:
        campaign.finish(campaign.start(verb, die))
    else:
        child = campaign.start(verb)
        _signal_after(child, processor_s / 2, signal.SIGKILL)
        campaign.finish(child)
    later = time.time() + 365 * 86400
    for path in (*campaign.trial.rglob("*"), *campaign.scratch.rglob("*")):
        os.utime(path, (later, later), follow_symlinks=False)
    campaign.run(verb, back)
    good = campaign.state() == expected and not campaign.left(expected)
    return "equal" if good else f"FAILED: {_difference(campaign.state(), expected)} {campaign.left(expected)}"


def _terminate(campaign: Campaign, verb: Verb, expected: dict[str, str], processor_s: float) -> str:
    """SIGTERM in the midst: exit code 143, one line, nothing left but what is kept; then started again."""
    for share in (0.5, 0.3, 0.7, 0.1):
        campaign.empty()
        child = campaign.start(verb)
        _signal_after(child, share * processor_s, signal.SIGTERM)
        begin = time.monotonic()
        code, text = campaign.finish(child)
        if code == 0:
            continue
        lines = [line for line in text.splitlines() if line.startswith("anymri: ended by SIGTERM; ")]
        temporary = [
            path.name for path in campaign.trial.rglob(".*") if path.suffix in (".part", ".old", ".anymri-lock")
        ]
        campaign.run(verb)
        good = code == 143 and len(lines) == 1 and not temporary and campaign.state() == expected
        said = lines[0].partition("; ")[2] if lines else text[-300:]
        took = time.monotonic() - begin
        return said if good else f"FAILED ({code}, {took:.1f} s, {temporary}): {said}"
    return "done before"


def verbs(inputs: Path) -> list[Verb]:
    """Every verb that writes, on the inputs that `make_inputs` makes."""
    cache, run, table = (str(inputs / name) for name in ("cache", "run", "results.parquet"))
    brains, subjects, config = (str(inputs / name) for name in ("brains", "subjects.csv", "run.yaml"))
    study = str(sorted(inputs.glob("brains/*-000"))[0])
    tiny = "32,32,32"
    return [
        Verb("phantom", ["phantom", "brains", "-n", "2", "--spacing", "8", "--seed", "1", "-q"]),
        Verb("index", ["index", brains, "-d", "brats2023", "-o", "subjects.csv"]),
        Verb("split", ["split", subjects, "--folds", "2", "-o", "split.json"]),
        Verb("preprocess", ["preprocess", subjects, "-o", "cache", "-q"]),
        Verb("plan", ["plan", subjects, "--cache", cache, "--memory", "1", "-o", "plan.yaml"]),
        Verb("prepare", ["prepare", brains, "-d", "brats2023", "--memory", "1", "-o", "work", "-q"]),
        Verb("train", ["train", config, "-o", "run", "-q"]),
        Verb("curves", ["curves", run, "-o", "curves.svg"]),
        Verb("evaluate", ["evaluate", run, "--data", cache, "-o", "results.parquet", "--window", tiny, "-q"]),
        Verb(
            "evaluate --save-predictions",
            [
                "evaluate",
                run,
                "--data",
                cache,
                "-o",
                "r.parquet",
                "--save-predictions",
                "maps",
                "--subset",
                "flair",
                "-q",
            ],
        ),
        Verb("predict", ["predict", study, "-m", run, "-o", "result", "-q"]),
        Verb("report", ["report", table, "-o", "report.html"]),
        Verb("report --markdown", ["report", table, "--markdown", "page.md"]),
        Verb("protocols", ["protocols", run, "--data", cache, "--subset", "flair", "-o", "protocols.md"]),
        Verb("benchmark", ["benchmark", str(inputs / "plan.yaml"), "-o", "bench", "--no-estimate", "-q"]),
        Verb("new-method --package", ["new-method", "my_net", "--package", "my-net"]),
        Verb("demo", ["demo", "--seed", "1", "-m", run, "--threads", "1", "-o", "demo"]),
        Verb("cost", ["cost", run, "--window", tiny, "--threads", "1", "-o", "cost.csv"]),
        Verb("import-weights", ["import-weights", "u_hved", str(inputs / "port.pth"), "-o", "w.safetensors"]),
        Verb(
            "phantom --workers 2",
            ["phantom", "brains", "-n", "4", "--spacing", "8", "--seed", "1", "--workers", "2", "-q"],
            alone=False,
        ),
        Verb("preprocess --workers 2", ["preprocess", subjects, "-o", "cache", "--workers", "2", "-q"], alone=False),
        Verb(
            "benchmark --ray",
            [
                "benchmark",
                str(inputs / "plan.yaml"),
                "-o",
                "bench",
                "--no-estimate",
                "--ray",
                "--workers",
                "2",
                "-q",
            ],
            alone=False,
        ),
    ]


CONFIG = """
method: {{name: unet, preset: tiny, config: {{width: 4, depth: 2}}}}
data: {{cache: {cache}}}
training: {{epochs: 4, steps_per_epoch: 4, patch: [16, 16, 16], threads: 1, device: cpu, precision: "32"}}
"""
PLAN = """
title: Two columns
data: {{cache: {cache}, split: {split}}}
methods: [threshold, {{name: unet, config: {{width: 2, depth: 2}}}}]
training: {{epochs: 2, steps_per_epoch: 2, patch: [16, 16, 16], threads: 1, device: cpu, precision: "32"}}
evaluation: {{part: test, hd95: false, subsets: [flair, t1c+flair], precision: "32"}}
"""


def make_inputs(campaign: Campaign) -> Path:
    """Two tiny phantoms, and all that verbs make of them for each other."""
    inputs = campaign.work / "inputs"
    places = {"cache": inputs / "cache", "split": inputs / "split.json"}
    for arguments in (
        ["phantom", "brains", "-n", "2", "--spacing", "8", "--seed", "1", "-q"],
        ["index", "brains", "-d", "brats2023", "-o", "subjects.csv"],
        ["split", "subjects.csv", "--folds", "2", "-o", "split.json"],
        ["preprocess", "subjects.csv", "-o", "cache", "-q"],
    ):
        campaign.warm(Verb("", arguments))
    shutil.copytree(campaign.trial, inputs)
    campaign.warm(Verb("", ["index", str(inputs / "brains"), "-d", "brats2023", "-o", str(inputs / "subjects.csv")]))
    (inputs / "run.yaml").write_text(CONFIG.format(**places))
    (inputs / "plan.yaml").write_text(PLAN.format(**places))
    campaign.warm(Verb("", ["train", str(inputs / "run.yaml"), "-o", str(inputs / "run"), "-q"]))
    table = str(inputs / "results.parquet")
    campaign.warm(Verb("", ["evaluate", str(inputs / "run"), "--data", str(inputs / "cache"), "-o", table, "-q"]))
    _authors_checkpoint(inputs / "port.pth")
    _small_demo()
    return inputs


def _authors_checkpoint(path: Path) -> None:
    """A file as U-HVED's port writes it, of the numbers of its golden."""
    import torch

    tests = Path(__file__).parents[1] / "tests"
    sys.path[:0] = [str(tests / "methods"), str(tests / "golden")]
    from named_numbers import state_dict
    from parity import Golden

    torch.save({"state_dict": state_dict(Golden("u_hved").shapes)}, path)


def _small_demo() -> None:
    """One phantom of 8 mm in place of three of 2 mm: in the children of this process alone."""
    from anymri.benchmark import demo

    demo.SPACING_MM = 8.0
    (demo.run_demo.__kwdefaults__ or {})["subjects"] = 1


def page(rows: list[Row], options: argparse.Namespace) -> str:
    """The rows as Markdown."""
    command = f"tools/kill_campaign.py --seed {options.seed} --kills {options.kills}"
    columns = (
        "verb | killed | distinct moments | same bytes | left behind | two at once | clock set back | after SIGTERM"
    )
    lines = [
        f"`{command}`, {time.strftime('%d %B %Y')}, {options.machine}.\n",
        f"| {columns} |",
        "|---|---:|---:|---:|---|---|---|---|",
    ]
    for row in rows:
        left = ", ".join(sorted(row.left)) or "nothing"
        cells = (row.verb, row.kills, len(row.moments), row.equal, left, row.alone, row.clock, row.terminated)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["\nNot compared, because two unbroken runs differ in it as well:\n"]
    lines += [f"- `{name}`: {what}." for name, what in TIMES.items() if name != "sha256"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="names of verbs")
    parser.add_argument("--machine", default="two-core x86-64, no GPU")
    parser.add_argument("--ray", default="/tmp/ray-killed", help="folder for Ray's own files")
    parser.add_argument("-o", "--output", type=Path, help="Markdown page, written anew after every verb")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder).resolve(), options.seed)
        import_all()
        campaign.known = {path.name for path in campaign.scratch.iterdir()}
        os.environ["RAY_TMPDIR"] = options.ray  # paths of its sockets have to be short
        rows = []
        for verb in verbs(make_inputs(campaign)):
            if not options.only or verb.name in options.only:
                rows.append(kill_and_restart(campaign, verb, options.kills))
                if options.output is not None:
                    options.output.write_text(page(rows, options))
        tempfile.tempdir = None
    print(page(rows, options))
    if any(row.equal < row.kills or row.left or "FAILED" in row.alone + row.clock + row.terminated for row in rows):
        raise SystemExit("not everything was the same")


def import_all() -> None:
    """Import once what the children need."""
    import torch

    import anymri.benchmark.demo
    import anymri.benchmark.outputs
    import anymri.benchmark.protocol_effects
    import anymri.benchmark.run
    import anymri.evaluation
    import anymri.inference.predict
    import anymri.phantom
    import anymri.training.loss_curves
    import anymri.training.planning  # noqa: F401

    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
