"""Ctrl-C and SIGTERM, wherever in a command they strike: heard once, and told in one line."""

from __future__ import annotations

import signal
from textwrap import indent

import pytest

from tests.support.scene import GROWING, STAGING, Scene, make_large_pair, snapshot, start, stop_at

HEARD = "signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A test session that runs in the background may ignore Ctrl-C."""
STRIKE = "os.kill(os.getpid(), signal.SIGINT); time.sleep(10)"
NOTHING_LEFT = "interrupted: no unfinished file was left behind\n"

AT_NUMBA = """
import os, signal, sys, threading, time
{heard}
class Numba:
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            sys.meta_path.remove(self)
{body}
sys.meta_path.insert(0, Numba())
"""
"""A prelude that does something as numba is about to be imported."""

PLACES = {
    # numba's C modules turn a KeyboardInterrupt into an ImportError.
    "an import that fails by another exception": f"""
try:
    {STRIKE}
except KeyboardInterrupt:
    raise ImportError("numba._devicearray failed to import") from None
""",
    # PyErr_Print calls the hook; NumPy's import_array makes an ImportError of it then.
    "a module in C that prints it and goes on": f"""
try:
    {STRIKE}
except KeyboardInterrupt as error:
    sys.excepthook(KeyboardInterrupt, error, error.__traceback__)
time.sleep(10)
""",
    # Python prints an exception in a finalizer, or of a file left open there, and goes on.
    "a finalizer": f"""
class Finalized:
    def __del__(self):
        {STRIKE}
Finalized()
open(os.devnull)
time.sleep(10)
""",
    "another thread while the main one waits for ever": """
idle, asleep = threading.Event(), threading.Lock()
other = threading.Thread(target=idle.wait, daemon=True)
other.start()
threading.Timer(0.5, signal.pthread_kill, (other.ident, signal.SIGINT)).start()
asleep.acquire()
asleep.acquire()
""",
}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_is_heard_where_it_strikes(scene: Scene, place: str) -> None:
    before = snapshot(scene.root)
    body = indent(PLACES[place], " " * 12)
    done = scene.cli(prelude=AT_NUMBA.format(heard=HEARD, body=body))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", NOTHING_LEFT)
    assert snapshot(scene.root) == before


INTERRUPTED_NUMPY = f"""
import os, signal, sys, time
{HEARD}
class NumPy:
    struck = False
    def find_spec(self, name, path=None, target=None):
        if name == "numpy" and self.struck:
            raise ImportError("cannot load module more than once per process")
        if name == "numpy":
            self.struck = True
            {STRIKE}
sys.meta_path.insert(0, NumPy())
"""


def test_ctrl_c_while_numpy_is_imported_which_cannot_be_repeated(scene: Scene) -> None:
    done = scene.cli(prelude=INTERRUPTED_NUMPY)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", NOTHING_LEFT)


INTERRUPTED_PLAN = f"""
import os, shardrestore, signal, time
{HEARD}
def plan(*_, **__):
    {STRIKE}
shardrestore.plan = plan
"""


def test_an_interrupted_plan_speaks_of_no_run(scene: Scene) -> None:
    make_large_pair(scene)
    stop_at(scene.output / STAGING / GROWING, signal.SIGKILL, lambda: start(scene))
    done = scene.cli(command="plan", prelude=INTERRUPTED_PLAN)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", NOTHING_LEFT)


IN_A_THREAD = """
import sys, threading
from typer.testing import CliRunner
from shardrestore_cli.main import app
def call():
    for _ in range(3):
        found.append(CliRunner().invoke(app, sys.argv[1:]).exit_code)
found = []
thread = threading.Thread(target=call)
thread.start()
thread.join()
print(found)
sys.exit()
"""


def test_a_command_is_carried_out_on_any_thread(scene: Scene) -> None:
    done = scene.cli(command="plan", prelude=IN_A_THREAD)
    assert (done.stdout, done.stderr) == ("[0, 0, 0]\n", "")
