"""Hostile checkpoints: refused in one clear message, or restored correctly; never obeyed.

Every case of the corpus goes through the real command line, in a process of its own with
limits on address space and time: ``plan``, and ``run`` if the plan accepts it.
"""

from __future__ import annotations

import json
import os
import pickle
import pty
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile.corpus import GENERATED, SEED, Case, generated, hand_made, named
from tests.support.places import HOSTILE_DRIVER
from tests.support.process.command import MAIN, offline
from tests.support.scene import (
    INDEX,
    SIDE_FILES,
    STAGING,
    Scene,
    Tensors,
    read_shard,
    read_tensors,
    snapshot,
)

ARGS = ("--base", "base", "--target", "target", "--output", "out", "--region", "all", "-k", "100")
"""All of the region is set back: what must come out needs no arithmetic."""

MARGIN_BYTES = 512 << 20
"""Address space beyond what a good tiny run takes: the default of ``--max-memory``.

A good run was seen to take 600 MB of address space, most of it the kernels' compiler and the
stacks of threads, and 165 MB of memory.
"""
SECONDS = 20
"""A case takes 0.05 to 1 s on an idle machine; what hangs, hangs for ever."""
OUTPUT_BYTES = 64_000

CASES = {case.name: case for case in hand_made()}


class Driver:
    """A process that forks for every command line; see `HOSTILE_DRIVER`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HOSTILE_DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # OpenBLAS would start threads, which a fork does not copy.
            env=offline(OPENBLAS_NUM_THREADS="1"),
            text=True,
        )
        self.address_bytes = -1

    def run(self, root: Path, *argv: str) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        files = {stream: str(root.with_name(f"{root.name}.{stream}")) for stream in STREAMS}
        limits = {"address_bytes": self.address_bytes, "seconds": SECONDS}
        job = {"argv": argv, "cwd": str(root), **files, **limits}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return Outcome(answer, *(Path(path).read_bytes() for path in files.values()))

    def close(self) -> None:
        self._process.communicate()


STREAMS = ("stdout", "stderr")


class Outcome:
    """How a command line ended, after the checks that hold for every one."""

    def __init__(self, answer: dict[str, Any], stdout: bytes, stderr: bytes) -> None:
        self.address_bytes: int = answer["address_bytes"]
        self.status: int = answer["status"]
        # Strict: what is not UTF-8 would be an error.
        self.stdout, self.stderr = stdout.decode(), stderr.decode()
        assert "Traceback" not in self.stderr, self.stderr[-3000:]
        assert self.status in (0, 1), f"{answer}: {self.stderr[-3000:]}"
        assert len(stdout) + len(stderr) <= OUTPUT_BYTES
        assert obeyed(self.stdout + self.stderr) == set()
        if self.status:
            assert self.stdout == ""
            assert self.stderr.startswith("error: ")
            assert [line[:7] for line in self.stderr.splitlines()].count("error: ") == 1
            assert self.stderr.endswith("\n")
        else:
            assert self.stderr == ""


def obeyed(text: str) -> set[str]:
    """Return what a terminal would obey rather than show: controls, directions."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The driver, with the limits that follow from a good run without them."""
    started = Driver()
    try:
        root = tmp_path_factory.mktemp("good")
        Scene.make(root)
        good = started.run(root, "run", *ARGS)
        assert good.status == 0, good.stderr
        started.address_bytes = good.address_bytes + MARGIN_BYTES
        yield started
    finally:
        started.close()


def inventory(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything in a folder; that a file was written shows in its times.

    Read are names and the file system's records alone: some of the files have terabytes.
    """
    found: dict[str, tuple[object, ...]] = {}
    for folder, names, files, descriptor in os.fwalk(root):  # some paths are too long for a path
        for name in (*names, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            record: tuple[object, ...] = (status.st_ino, stat.filemode(status.st_mode))
            if not stat.S_ISDIR(status.st_mode):
                record += (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            found[os.path.join(folder, name)] = record
    return found


def below(folder: Path, found: dict[str, tuple[object, ...]]) -> set[str]:
    return {path for path in found if path == str(folder) or path.startswith(f"{folder}/")}


def examine(case: Case, driver: Driver, root: Path) -> None:
    """Build a case, plan it, run it, and check everything that must hold."""
    case.build(root)
    before = inventory(root)
    planned = driver.run(root, "plan", *ARGS, *case.args)
    assert inventory(root) == before
    done = planned
    if planned.status == 0:
        done = driver.run(root, "run", *ARGS, *case.args, "--json")
    after = inventory(root)
    written = below(root / "out", after)
    assert {path: record for path, record in after.items() if path not in written} == before
    if done.status:
        assert written == set()
        assert case.legal is not True, done.stderr[-3000:]
        assert any(side in done.stderr for side in ("base", "target", "out")), done.stderr[-3000:]
        for words in case.says:
            assert words in done.stderr, done.stderr[-3000:]
    else:
        assert case.legal is not False, planned.stdout
        check_output(root, json.loads(done.stdout), cast=bool(case.args))


def check_output(root: Path, document: dict[str, Any], *, cast: bool) -> None:
    """Compare an output with its target: headers, tensors, side files, nothing else."""
    output, target = root / "out", root / "target"
    assert document["selected_elements"] == document["region_elements"] > 0
    shards = {path.relative_to(output) for path in output.rglob("*.safetensors") if path.is_file()}
    named_shards = shards_of(target)
    assert shards == named_shards
    if not cast:
        for name in shards:
            assert header_of(output / name) == header_of(target / name)
        found, base, own = (
            tensors_of(folder, names)
            for folder, names in ((output, shards), (root / "base", None), (target, shards))
        )
        assert found.keys() == own.keys()
        restored = {name for name, tensor in found.items() if tensor == base.get(name)}
        assert all(found[name] == own[name] for name in found.keys() - restored)
        assert sum(count(found[name]) for name in restored) >= document["selected_elements"]
    assert STAGING not in os.listdir(output)


def shards_of(folder: Path) -> set[Path]:
    if os.path.lexists(folder / "model.safetensors"):
        return {Path("model.safetensors")}
    return {Path(name) for name in json.loads((folder / INDEX).read_text())["weight_map"].values()}


def tensors_of(folder: Path, names: set[Path] | None) -> Tensors:
    return {
        name: tensor
        for shard in (shards_of(folder) if names is None else names)
        for name, tensor in read_shard(folder / shard).items()
    }


def count(tensor: tuple[str, tuple[int, ...], bytes]) -> int:
    elements = 1
    for length in tensor[1]:
        elements *= length
    return elements


def header_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        prefix = file.read(8)
        return prefix + file.read(int.from_bytes(prefix, "little"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder within the test's: what is written beside it would show."""
    inner = tmp_path / "scene"
    inner.mkdir()
    return inner


@pytest.mark.parametrize("name", CASES)
def test_a_hand_made_checkpoint_is_refused_or_restored(
    name: str, driver: Driver, root: Path
) -> None:
    examine(CASES[name], driver, root)


@pytest.fixture(scope="module")
def generated_cases() -> list[Case]:
    return list(generated())


@pytest.mark.parametrize("number", range(2 * GENERATED))
def test_a_generated_checkpoint_is_refused_or_restored(
    number: int, generated_cases: list[Case], driver: Driver, root: Path
) -> None:
    print(f"seed {SEED}, case {number}: HOSTILE_SEED={SEED} repeats it")
    if number < len(generated_cases):
        examine(generated_cases[number], driver, root)


def test_the_corpus_has_more_than_two_hundred_distinct_cases(
    generated_cases: list[Case],
) -> None:
    names = {*CASES, *(case.name for case in generated_cases)}
    assert len(names) == len(CASES) + len(generated_cases) >= 200
    assert len(generated_cases) == 2 * GENERATED


SAMPLE = [name for number, name in enumerate(CASES) if number % 40 == 0]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_forked_command_line_says_what_a_new_process_says(
    name: str, driver: Driver, root: Path
) -> None:
    CASES[name].build(root)
    forked = driver.run(root, "plan", *ARGS)
    command = [sys.executable, "-m", "shardrestore_cli.main", "plan", *ARGS]
    done = subprocess.run(command, cwd=root, env=offline(), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (forked.status, forked.stderr)
    assert done.stdout.decode().splitlines()[:2] == forked.stdout.splitlines()[:2]


def test_a_terminal_shows_control_characters_and_obeys_none(root: Path) -> None:
    """Not a pipe: for pipes some escape sequences are removed on the way."""
    lonely = root / "lonely"
    lonely.mkdir()
    (root / "base").mkdir()
    named("a")(lonely)
    (lonely / "base" / "model.safetensors").rename(root / "base" / "model.safetensors")
    (root / "target").mkdir()
    (root / "target" / "\x1b]0;x\x07\x1b[2J\x9b31m\u202e\n.bin").touch()
    leader, follower = pty.openpty()
    try:
        command = [sys.executable, "-m", "shardrestore_cli.main", "run", *ARGS]
        done = subprocess.run(
            command, cwd=root, env=offline(), stdout=follower, stderr=follower, check=False
        )
        text = os.read(leader, 100_000).decode().replace("\r\n", "\n")
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 1
    assert obeyed(text) == set()
    assert r"\x1b]0;x\x07\x1b[2J\x9b31m" in text


# No code of a checkpoint is run ---------------------------------------------------------

TRAP = "import pathlib; pathlib.Path({path!r}).touch()\nraise SystemExit('was run')\n"
TRAPS = (
    *("modeling_tiny.py", "configuration_tiny.py", "tokenization_tiny.py", "__init__.py"),
    *("sitecustomize.py", "usercustomize.py", "numpy.py", "numba.py", "json.py", "shardrestore.py"),
)


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("where", ["beside", "inside"])
def test_no_code_of_a_checkpoint_is_run(scene: Scene, where: str) -> None:
    """Also when the command is given inside the checkpoint, with ``-P`` as for the installed one.

    ``python -m`` would look for modules in the current folder; a console script does not.
    """
    hacked = scene.root / "hacked"
    for side in (scene.base, scene.target):
        for name in TRAPS:
            (side / name).write_text(TRAP.format(path=str(hacked)))
        (side / "x.pth").write_text(f"import os; os.mkdir({str(hacked)!r})\n")
        remote = {
            "auto_map": {"AutoConfig": "configuration_tiny.C", "AutoModel": "modeling_tiny.M"}
        }
        (side / "config.json").write_text(json.dumps(remote))
        bomb = pickle.dumps(Bomb(hacked))
        for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
            (side / name).write_bytes(bomb)
    before = snapshot(scene.root)
    cwd, prefix = (scene.root, "") if where == "beside" else (scene.target, "../")
    command = [sys.executable, "-P", "-c", MAIN, "run", "--base", f"{prefix}base"]
    command += ["--target", f"{prefix}target", "--output", f"{prefix}out"]
    done = subprocess.run(command, cwd=cwd, env=offline(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not hacked.exists()
    assert {n: v for n, v in snapshot(scene.root).items() if n.partition("/")[0] != "out"} == before
    for name in (*TRAPS, "tokenizer.pkl", "config.json", "x.pth"):
        assert (scene.output / name).read_bytes() == (scene.target / name).read_bytes()
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        assert not (scene.output / name).exists()


# What others can read --------------------------------------------------------------------

WATCHED_RUN = """
import os, stat, sys
from pathlib import Path
import shardrestore

os.umask(int(sys.argv[1], 8))
STAGING = Path("out/.shardrestore-partial")
seen = set()

def look(*_):
    # The work folder itself is closed to others: nothing in it can be reached by them.
    if STAGING.is_dir():
        mode = stat.S_IMODE(STAGING.stat().st_mode)
        seen.add("folder")
        assert mode == 0o700, oct(mode)
    for name in os.listdir("/proc/self/fd"):
        try:
            link, status = os.readlink(f"/proc/self/fd/{name}"), os.stat(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if "(deleted)" in link and stat.S_ISREG(status.st_mode):
            seen.add("unnamed")
            assert not status.st_mode & 0o077, (link, oct(status.st_mode))

class Watcher:
    begin = advance = end = staticmethod(look)

busy = False
def on_event(event, args):
    global busy
    if event in ("os.rename", "os.mkdir", "os.rmdir") and not busy:
        busy = True
        look()
        busy = False

sys.addaudithook(on_event)
shardrestore.restore("base", "target", "out", percent=10, observer=Watcher(), dtype="fp32")
assert seen == {"folder", "unnamed"}, seen
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc to see open files in")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027])
def test_nobody_else_can_read_unfinished_files(scene: Scene, umask: int) -> None:
    command = [sys.executable, "-c", WATCHED_RUN, oct(umask)]
    done = subprocess.run(
        command, cwd=scene.root, env=offline(), capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for path in (scene.output, *scene.output.rglob("*")):
        usual = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == usual & ~umask, path
    assert (scene.output / "templates" / "extra.jinja").is_file()
    assert SIDE_FILES.keys() <= {
        str(path.relative_to(scene.output)) for path in scene.output.rglob("*")
    }
    assert read_tensors(scene.output).keys() == read_tensors(scene.target).keys()
