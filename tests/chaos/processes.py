"""Child processes that run one task each. They are forked, so they start at once, and they can be killed and stopped for real.

The parent has no threads and opens no store: neither survives a fork.
"""

import faulthandler
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from market_data.core.errors import MarketDataError

PATIENCE = 4.0
"""Seconds that a task may wait for one that is stopped, and may hold a lock, before that one goes on."""
LONGEST = 240.0
"""Seconds after which a task hangs."""


@dataclass
class Outcome:
    """What became of a task.

    :param kind: ``ok``, ``error`` (one of the project's), ``crash`` (any other, a signal such as SIGSEGV too), ``killed``, ``hung``.
    :param value: result of the task.
    :param text: of the error, with its class.
    :param retries: Airflow would run it again, ``delay`` seconds later.
    :param struck: names of the faults that it met.
    """

    kind: str
    value: Any = None
    text: str = ""
    retries: bool = True
    delay: float = 0.0
    struck: list[str] = field(default_factory=list)


class Child:
    """A forked process.

    :param body: runs in it; takes a list to which it adds the names of faults that struck.
    :param judge: returns whether Airflow repeats a task with this error, and after how many seconds.
    """

    def __init__(self, body: Callable[[list[str]], Any], judge: Callable[[BaseException], tuple[bool, float]]) -> None:
        self._read, write = os.pipe()
        self._brought = b""
        self._since = time.monotonic()
        self.stopped = False
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            _work(write, body, judge)
        os.close(write)

    def wait(self, seconds: float = LONGEST) -> Outcome | None:
        """Return what became of it; None once it is stopped, or works for longer than ``seconds``."""
        until = time.monotonic() + seconds
        while not self.stopped:
            ready, _, _ = select.select([self._read], [], [], 0.005)
            if ready:
                piece = os.read(self._read, 1 << 20)
                self._brought += piece
                if not piece:
                    return self._ended()
            elif self._is_stopped():
                self.stopped = True
            elif time.monotonic() > until:
                return None
        return None

    def _is_stopped(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None
        except ChildProcessError:  # it has ended since the look at the pipe, which is at its end now
            return False

    def go_on(self) -> None:
        """Let it go on if it is stopped."""
        if self.stopped:
            self.stopped = False
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> Outcome:
        """End it at once."""
        self.stopped = False
        os.kill(self.pid, signal.SIGKILL)
        while os.read(self._read, 1 << 20):
            pass
        os.close(self._read)
        os.waitpid(self.pid, 0)
        return Outcome("killed", text="killed by the test")

    def _ended(self) -> Outcome:
        os.close(self._read)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            where = self._brought.decode(errors="replace")
            return Outcome("killed" if name == "SIGKILL" else "crash", text=f"{where}killed by {name}")
        return pickle.loads(self._brought)  # our own child


def _work(write: int, body: Callable[[list[str]], Any], judge: Callable[[BaseException], tuple[bool, float]]) -> None:
    """Run ``body``, send its outcome, and end this process without anything of the parent's."""
    struck: list[str] = []
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    faulthandler.enable(write)  # where a thread was when a signal such as SIGSEGV ended the process
    try:
        outcome = Outcome("ok", body(struck))
        sent = pickle.dumps(outcome)
    except BaseException as error:  # noqa: BLE001 - it is reported, whatever it is
        kind = "error" if isinstance(error, MarketDataError) else "crash"
        text = f"{type(error).__name__}: {error}" if kind == "error" else traceback.format_exc()
        outcome = Outcome(kind, None, text, *judge(error))
    outcome.struck = struck
    sent = pickle.dumps(outcome)
    while sent:
        sent = sent[os.write(write, sent) :]
    os._exit(0)
