"""An output that is deleted under a suspended run, and made anew by another one."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.process.command import run_cli
from tests.support.scene import GROWING, STAGING, Scene, make_large_pair, start


def suspend_while_writing(scene: Scene) -> Any:
    """Start a run; stop it when its shard has begun to grow, again if it was faster."""
    growing = scene.output / STAGING / GROWING
    for _ in range(5):
        process = start(scene, "-k", "10", "--no-report")
        while process.poll() is None and not os.path.lexists(growing):
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        if os.path.lexists(growing):
            return process
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
        shutil.rmtree(scene.output)
    raise AssertionError("five runs were done before the signal came")


def test_a_suspended_run_leaves_alone_what_another_one_makes_in_its_place(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path)
    make_large_pair(scene)
    first = suspend_while_writing(scene)
    shutil.rmtree(scene.output)
    second = suspend_while_writing(scene)
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 1
    (line,) = said.splitlines()  # without the advice to resume: what is there is the other run's
    assert line.startswith("error: out: was deleted, moved or replaced while this run was writing")
    second.send_signal(signal.SIGCONT)
    _, said = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, "")
    checked = run_cli("verify", "out", "--quiet", cwd=scene.root)
    assert (checked.returncode, checked.stderr) == (0, "")
