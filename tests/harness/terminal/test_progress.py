"""Progress shows on a terminal, after a while, and nowhere else."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tqdm import tqdm

from condsim.harness.terminal.progress import track

CODE = """
import time
from condsim.harness.terminal.progress import track
with track(40, "outer work", patience={patience}) as outer:
    for _ in range(2):
        with track(20, "inner work", patience={patience}) as inner:
            for _ in range(20):
                time.sleep(0.01)
                inner(1)
                outer(1)
print("done")
"""


def on_a_terminal(patience: float) -> str:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    code = CODE.format(patience=patience)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=terminal, stdout=subprocess.PIPE, env=environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.stdout is not None
    assert process.stdout.read() == b"done\n"
    assert process.wait() == 0
    os.close(controller)
    return shown.decode()


def test_a_terminal_shows_work_inside_work() -> None:
    shown = on_a_terminal(patience=0)
    assert "outer work" in shown
    assert "inner work" in shown
    assert "/40" in shown


def test_quick_work_shows_nothing() -> None:
    assert on_a_terminal(patience=600) == ""


def test_a_pipe_shows_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE.format(patience=0)], capture_output=True, check=True)
    assert ran.stderr == b""
    assert ran.stdout == b"done\n"


def test_work_that_fails_leaves_no_display_and_no_thread_behind() -> None:
    before = threading.active_count()

    def fail() -> None:
        with track(3, "work", patience=0) as advance:
            advance(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(tqdm._instances) == 0
    assert threading.active_count() == before


def test_threads_advance_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 threads, 1,000 steps each: none is lost."""
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", shown)
    with track(4000, "work", patience=0) as advance, ThreadPoolExecutor(4) as pool:
        for _ in range(4000):
            pool.submit(advance, 1)
        pool.shutdown()
        (bar,) = tqdm._instances
        assert bar.n == 4000
