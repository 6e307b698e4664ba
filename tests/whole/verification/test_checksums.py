"""``run --checksum`` and what ``verify`` makes of ``SHA256SUMS``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shardrestore
from shardrestore.names import CHECKSUM_FILE
from shardrestore.output.checksum import parse_checksums
from tests.support.checkpoints import read_tree
from tests.support.runs import BUDGET, scratch
from tests.support.scene import Scene, shard_names

ODD_NAMES = ("two words.txt", "two\nlines", "back\\slash", "ünïcode – 模型.txt")


@pytest.fixture(scope="module")
def made() -> Iterator[Scene]:
    """A model with checksums and side files of odd names."""
    with scratch() as root:
        scene = Scene.make(root)
        for name in ODD_NAMES:
            (scene.target / name).write_text(name)
        (scene.target / CHECKSUM_FILE).write_bytes(b"the target's own\n")
        restore(scene)
        yield scene


@pytest.fixture
def scene(made: Scene, tmp_path: Path) -> Scene:
    """A copy of the model, to be spoilt; its inputs are where they were."""
    shutil.copytree(made.output, tmp_path / "out")
    return Scene(tmp_path)


def restore(scene: Scene, **options: object) -> None:
    shardrestore.restore(
        scene.base,
        scene.target,
        scene.output,
        percent=20,
        **{"checksum": True, "max_memory": BUDGET} | options,  # type: ignore[arg-type]
    )


def checksums(folder: Path) -> dict[str, str]:
    return parse_checksums((folder / CHECKSUM_FILE).read_bytes(), "")


def problems(folder: Path) -> list[str]:
    return list(shardrestore.verify(folder, max_memory=BUDGET).problems)


def test_every_published_file_but_itself_is_in_it_with_its_hash(made: Scene) -> None:
    tree = read_tree(made.output)
    del tree[CHECKSUM_FILE]
    assert checksums(made.output) == {
        name: hashlib.sha256(content).hexdigest() for name, content in tree.items()
    }
    assert set(ODD_NAMES) < set(tree)


def test_the_target_s_own_is_not_copied(made: Scene) -> None:
    assert b"the target's own" not in (made.output / CHECKSUM_FILE).read_bytes()
    restore(Scene(made.root), checksum=False, overwrite=True)
    try:
        assert not (made.output / CHECKSUM_FILE).exists()
    finally:
        restore(made, overwrite=True)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_coreutils_accept_it(made: Scene) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUM_FILE],
        cwd=made.output,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.count(b": OK\n") == len(read_tree(made.output)) - 1


def test_it_is_the_same_whether_the_run_was_resumed_or_not(made: Scene, tmp_path: Path) -> None:
    class Interrupt:
        def begin(self, stage: str, total_bytes: int) -> None:
            pass

        def advance(self, nbytes: int) -> None:
            pass

        def end(self) -> None:
            calls.append(None)
            if len(calls) == 2:
                raise KeyboardInterrupt

    calls: list[None] = []
    settings = {"percent": 20, "checksum": True, "max_memory": BUDGET}
    with pytest.raises(KeyboardInterrupt):
        shardrestore.restore(
            made.base, made.target, tmp_path / "out", observer=Interrupt(), **settings
        )
    assert os.listdir(tmp_path / "out") == [".shardrestore-partial"]
    shardrestore.restore(made.base, made.target, tmp_path / "out", resume=True, **settings)
    assert read_tree(tmp_path / "out") == read_tree(made.output)


def test_each_model_of_a_sweep_has_its_own(made: Scene, tmp_path: Path) -> None:
    results = shardrestore.sweep(
        made.base,
        made.target,
        tmp_path / "sweep",
        percents=[10, 40],
        checksum=True,
        max_memory=BUDGET,
    )
    sums = [checksums(result.output) for result in results]
    assert sums[0].keys() == sums[1].keys()
    assert sums[0] != sums[1]
    assert [problems(result.output) for result in results] == [[], []]


def test_a_model_as_it_was_written_has_no_problem(scene: Scene) -> None:
    assert problems(scene.output) == []


def test_a_model_that_was_written_without_checksums_has_no_problem(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path)
    restore(scene, checksum=False)
    assert problems(scene.output) == []


def test_checksums_that_are_gone_are_missed(scene: Scene) -> None:
    (scene.output / CHECKSUM_FILE).unlink()
    (found,) = problems(scene.output)
    assert f"{CHECKSUM_FILE}: missing, though the model was written with --checksum" in found


@pytest.mark.parametrize("kept", [0, 3], ids=["empty", "incomplete"])
def test_checksums_that_do_not_cover_every_file_are_a_problem(scene: Scene, kept: int) -> None:
    path = scene.output / CHECKSUM_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:kept]))
    (found,) = problems(scene.output)
    assert f"incomplete: {len(lines) - kept} of {len(lines)} files have no checksum" in found


@pytest.mark.parametrize("name", ["tokenizer.model", "templates/extra.jinja", "two words.txt"])
def test_a_side_file_that_was_changed_is_named_with_both_hashes(scene: Scene, name: str) -> None:
    recorded = checksums(scene.output)[name]
    content = (scene.output / name).read_bytes()
    (scene.output / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = hashlib.sha256((scene.output / name).read_bytes()).hexdigest()
    assert any(
        str(scene.output / name) in problem and recorded in problem and found in problem
        for problem in problems(scene.output)
    )


def test_a_side_file_that_was_removed_is_named(scene: Scene) -> None:
    (scene.output / "tokenizer.model").unlink()
    assert any("tokenizer.model" in problem for problem in problems(scene.output))


def test_a_shard_that_was_changed_is_named_by_its_hash_too(scene: Scene) -> None:
    path = scene.output / shard_names(scene.output)[0]
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    assert any(
        "its SHA-256 is" in problem and path.name in problem for problem in problems(scene.output)
    )


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda text: text[:100], "line 2 is no checksum"),
        (lambda text: b"\xff\xfe" + text, "line 1 is no checksum"),
        (lambda text: text.replace(b"\n", b"\r\n"), CHECKSUM_FILE),
        (lambda text: text + b"ab" * 32 + b"  /etc/passwd\n", "/etc/passwd"),
        (lambda text: text + b"ab" * 32 + b"  a/../../outside\n", "a/../../outside"),
        (lambda text: text + b"ab" * 32 + b"  missing file\n", "missing file"),
        (lambda text: text + b"ab" * 32 + b"  templates\n", "templates"),
        (lambda text: text + b"ab" * 32 + b"  nul\0byte\n", "nul"),
    ],
    ids=["cut", "bytes", "CRLF", "absolute", "outside", "missing", "folder", "NUL"],
)
def test_a_damaged_file_is_a_problem_that_says_where(
    scene: Scene, damage: Damage, named: str
) -> None:
    path = scene.output / CHECKSUM_FILE
    path.write_bytes(damage(path.read_bytes()))
    found = problems(scene.output)
    assert any(named in problem and CHECKSUM_FILE in problem for problem in found), found


def test_what_lies_outside_is_not_read(scene: Scene) -> None:
    secret = scene.root / "secret"
    secret.write_bytes(b"of someone else")
    path = scene.output / CHECKSUM_FILE
    with open(path, "ab") as file:
        file.write(b"%s  ../secret\n%s  %s\n" % (b"ab" * 32, b"ab" * 32, os.fsencode(secret)))
    found = problems(scene.output)
    assert len([problem for problem in found if "outside the folder" in problem]) == 2
    assert not any(hashlib.sha256(b"of someone else").hexdigest() in one for one in found)


def test_a_link_where_the_checksums_are_is_followed_only_to_a_file(scene: Scene) -> None:
    path = scene.output / CHECKSUM_FILE
    path.unlink()
    path.symlink_to(scene.root)
    assert any(CHECKSUM_FILE in problem for problem in problems(scene.output))


def test_the_command_line_exits_with_1_and_names_the_file(scene: Scene) -> None:
    (scene.output / "tokenizer.model").write_bytes(b"another")
    done = scene_verify(scene)
    assert done.returncode == 1
    assert "tokenizer.model" in done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert not document["ok"]


def scene_verify(scene: Scene) -> subprocess.CompletedProcess[str]:
    from tests.support.process.command import run_cli

    return run_cli("verify", scene.output, "--json", "--quiet")
