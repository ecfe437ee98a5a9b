"""Hosts on a network of their own, for tests: Linux namespaces on one bridge. Needs root and ``ip`` (Debian: iproute2).

The test's own process and its servers are on the bridge's address. A program that runs on a `NamespaceHost` has another address and
another host name; with ``read_only=True`` its file system is read-only but for an empty ``/tmp`` that ends with it, as in a container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

READ_ONLY = "mount --make-rprivate / && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /tmp && "


def available() -> str:
    """Return why there can be no namespaces here; empty: there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    return "" if shutil.which("ip") else "ip is not installed: apt-get install iproute2"


def needed() -> None:
    """Skip the test where there can be no namespaces; fail it with ``TESTS_MAY_NOT_SKIP=1``."""
    if missing := available():
        (pytest.fail if os.environ.get("TESTS_MAY_NOT_SKIP") else pytest.skip)(missing)


@dataclass(frozen=True)
class NamespaceHost:
    """A host of a `Network`.

    :param name: the host name, and the namespace's.
    """

    name: str
    address: str

    def command(self, *words: str, read_only: bool = False) -> list[str]:
        """Return the command that runs ``words`` on this host. The process is that of the command itself."""
        inner = (READ_ONLY if read_only else "") + 'hostname "$0" && exec "$@"'
        spaces = ["--uts", "--mount"] if read_only else ["--uts"]
        return ["ip", "netns", "exec", self.name, "unshare", *spaces, "sh", "-c", inner, self.name, *words]

    def pids(self) -> list[int]:
        """Return the processes on this host."""
        return [int(line) for line in _ip("netns", "pids", self.name).split()]

    def kill(self) -> int:
        """Kill every process on this host outright; return how many there were."""
        killed = 0
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        return killed


@dataclass(frozen=True)
class Network:
    """Hosts, and the address at which they reach the servers of the test."""

    address: str
    hosts: Sequence[NamespaceHost]


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Yield a network with a host of each name. At the end every process on it is killed."""
    _sweep()
    number = _claimed()
    bridge, prefix = f"md{os.getpid()}-{number}", f"10.201.{number}"
    hosts = [NamespaceHost(f"{bridge}-{name}", f"{prefix}.{place}") for place, name in enumerate(names, 2)]
    try:
        _ip("address", "add", f"{prefix}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for place, host in enumerate(hosts):
            cable = f"{bridge}v{place}"
            _ip("netns", "add", host.name)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _ip("link", "set", cable, "master", bridge, "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", host.name, "link", "set", device, "up")
        yield Network(f"{prefix}.1", hosts)
    finally:
        _remove(bridge)


def _claimed() -> int:
    """Return the number of a subnet that is this process's: its bridge exists now."""
    for place in range(254):
        number = (os.getpid() + place) % 254 + 1  # from different places, so that two processes do not claim one at once
        used = _ip("-brief", "address")
        if f" 10.201.{number}." in used or f"-{number} " in _ip("-brief", "link", "show", "type", "bridge"):
            continue
        with suppress(AssertionError):
            _ip("link", "add", f"md{os.getpid()}-{number}", "type", "bridge")
            return number
    raise AssertionError("no subnet is free")


def _sweep() -> None:
    """Remove what tests left that were killed."""
    for line in _ip("-brief", "link", "show", "type", "bridge").splitlines():
        bridge = line.split()[0]
        owner, dash, _ = bridge.removeprefix("md").partition("-")
        if bridge.startswith("md") and dash and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _remove(bridge)


def _remove(bridge: str) -> None:
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"{bridge}-"):
            with suppress(AssertionError):
                NamespaceHost(name, "").kill()
                _ip("netns", "delete", name)
    for line in _ip("-brief", "link", "show", "type", "veth").splitlines():  # those of a deleted namespace live on for a moment
        cable = line.split()[0].partition("@")[0]
        if cable.startswith(f"{bridge}v"):
            with suppress(AssertionError):
                _ip("link", "delete", cable)
    with suppress(AssertionError):
        _ip("link", "delete", bridge)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout
