"""An output is held by the process that writes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shardrestore.errors import OutputError
from shardrestore.names import STAGING_FOLDER
from shardrestore.output.staging import Staging


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


HOLDER = """
import sys, time
from pathlib import Path
from shardrestore.output.staging import Staging
staging = Staging(Path(sys.argv[1]), overwrite=True)
staging.write_file("config.json", b"half")
print("held", flush=True)
time.sleep(60)
"""


def test_the_output_of_a_killed_run_is_free_again(output: Path) -> None:
    output.mkdir(parents=True)
    command = [sys.executable, "-c", HOLDER, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(OutputError, match="another run is writing"):
                Staging(output, overwrite=True)
        finally:
            holder.send_signal(signal.SIGKILL)
    assert (output / STAGING_FOLDER / "config.json").exists()
    staging = Staging(output, overwrite=False)
    staging.clear()
    assert list(staging.folder.iterdir()) == []
    staging.discard()
