"""Several hosts, one account: the vendor's log shows no window over its quota, whatever is held up, killed or out of step."""

import os
import random
import time
from contextlib import ExitStack, contextmanager

import pytest

from sandbox.call_log import most_in
from tests.http.many_hosts import Host, Vendor
from tests.services import postgres_server, redis_server
from tests.services.network import Network, available, needed, network

SKEWS = (0.0, 60.0, -60.0)
BESIDE = Network("127.0.0.1", (None, None, None))
"""No network: the hosts are processes beside the test."""


@pytest.fixture
def hosts_apart():
    """Three hosts with addresses and names of their own, where namespaces can be had; .ci/run has them."""
    if available() and not os.environ.get("TESTS_MAY_NOT_SKIP"):
        yield BESIDE
        return
    needed()
    with network("a", "b", "c") as found:
        yield found


@contextmanager
def shared(kind, folder, address="127.0.0.1"):
    """Yield what a host needs to use one store of a kind."""
    if kind == "redis":
        redis_server.server(address).client().flushall()
        yield ["redis", redis_server.server(address).settings]
        return
    with postgres_server.empty_database(folder, address="" if address == "127.0.0.1" else address) as found:
        fields = {"host": found.host, "port": found.port, "dbname": found.schema, "user": found.login, "password": found.password}
        yield ["postgres", fields]


@contextmanager
def running(vendor, stores, rules, places=BESIDE.hosts, **fields):
    with ExitStack() as stack:
        hosts = []
        for store, skew, place in zip(stores, SKEWS, places, strict=False):
            hosts.append(Host(vendor, store, rules, skew=skew, place=place, **fields))
            stack.callback(hosts[-1].close)
        yield hosts


@contextmanager
def vendor_of(longest, address="127.0.0.1"):
    vendor = Vendor(longest, address=address)
    try:
        yield vendor
    finally:
        vendor.close()


def killed_now_and_then(vendor, hosts, calls, every, seed=1):
    """Wait for ``calls`` calls; kill a process whenever ``every`` of them have come."""
    draw = random.Random(seed)
    for count in range(every, calls + 1, every):
        vendor.await_calls(count)
        draw.choice(hosts).kill_worker(draw.randrange(100))


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_no_window_is_over_with_three_hosts_held_up_calls_and_kills(kind, tmp_path, hosts_apart):
    rules, apart = {"windows": [(15, 1.0), (25, 2.0)], "lease": 5.0}, hosts_apart
    with (
        vendor_of(0.3, apart.address) as vendor,
        shared(kind, tmp_path, apart.address) as store,
        running(vendor, [store] * 3, rules, apart.hosts, slots=4, feeds=2) as hosts,
    ):
        killed_now_and_then(vendor, hosts, 52, every=13)
        moments, paths = vendor.moments, {path.split("/")[1] for _, path in vendor.calls}
    assert most_in(moments, 1.0) <= 15
    assert most_in(moments, 2.0) <= 25
    assert paths == {"feed-0", "feed-1"}


def test_one_host_keeps_its_quota_with_a_file(tmp_path):
    rules = {"windows": [(15, 1.0)], "lease": 5.0}
    with vendor_of(0.3) as vendor, running(vendor, [["file", str(tmp_path)]], rules) as hosts:
        killed_now_and_then(vendor, hosts, 39, every=13)
        moments = vendor.moments
    assert most_in(moments, 1.0) <= 15


def test_files_of_several_hosts_do_not_keep_it(tmp_path):
    """What the other two tests must be able to find."""
    stores = [["file", str(tmp_path / name)] for name in "abc"]
    with vendor_of(0.1) as vendor, running(vendor, stores, {"windows": [(5, 1.0)]}, slots=3):
        vendor.await_calls(30)
        moments = vendor.moments
    assert most_in(moments, 1.0) > 5


def test_after_its_supervisor_was_killed_a_host_makes_no_further_call_and_the_others_have_its_share(tmp_path):
    rules = {"windows": [(15, 1.0)]}
    with vendor_of(0.05) as vendor, shared("redis", tmp_path) as store, running(vendor, [store] * 2, rules, slots=3) as hosts:
        vendor.await_calls(15)
        hosts[0].kill_supervisor()
        killed = time.monotonic()
        on_their_way = {*hosts[0].pids}
        vendor.await_calls(len(vendor.calls) + 25)
        moments = vendor.moments
        late = [path for moment, path in vendor.calls if moment > killed and int(path.split("/")[2]) in on_their_way]
    assert len(late) <= 3  # each of its three processes may have been in a call
    assert most_in(moments, 1.0) <= 15


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_three_hosts_use_the_quota_nearly_whole_and_never_more(kind, tmp_path, hosts_apart):
    """3 hosts x 8 slots, two feeds, a minute between the clocks: at least 97 percent of the quota in four windows."""
    calls, seconds, windows = 40, 20.0, 4
    rules, apart = {"windows": [(calls, seconds)], "lease": 5.0}, hosts_apart
    with (
        vendor_of(0.25, apart.address) as vendor,
        shared(kind, tmp_path, apart.address) as store,
        running(vendor, [store] * 3, rules, apart.hosts, feeds=2) as hosts,
    ):
        killed_now_and_then(vendor, hosts, 2 * calls, every=16)
        vendor.await_calls(calls * (windows + 3) + 1, 600)
        moments = vendor.moments
    assert most_in(moments, seconds) <= calls
    lasted = moments[(windows + 3) * calls] - moments[3 * calls]
    assert windows * seconds / lasted >= 0.97
