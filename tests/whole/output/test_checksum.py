"""Files of checksums are those of ``sha256sum``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shardrestore.output.checksum import encode_checksums, hash_file

ODD_NAMES = (
    "plain.json",
    "two words.txt",
    " begins with a space",
    "*begins with a star",
    "\\begins with a backslash",
    "ünïcode – 模型.txt",
    "two\nlines",
    "carriage\rreturn",
    "back\\slash\\n",
    "ends with a backslash\\",
    "folder/in a folder",
    "\udcff no UTF-8",
    "next\x85line\u2028here\x0c",
)

coreutils = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files with odd names."""
    for number, name in enumerate(ODD_NAMES):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    return tmp_path


@coreutils
def test_coreutils_write_the_same_lines(folder: Path) -> None:
    names = sorted(ODD_NAMES)
    written = subprocess.run(
        ["sha256sum", "--", *names], cwd=folder, capture_output=True, check=True
    )
    checksums = {name: hash_file(folder / name) for name in names}
    assert encode_checksums(checksums) == written.stdout


@coreutils
def test_coreutils_accept_the_lines(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(
        encode_checksums({name: hash_file(folder / name) for name in ODD_NAMES})
    )
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked
    assert checked.stdout.count(b": OK\n") == len(ODD_NAMES)
