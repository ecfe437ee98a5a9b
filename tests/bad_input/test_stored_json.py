"""Every reader of a stored JSON document reports another form; none of its errors escapes."""

import json
from types import SimpleNamespace

import pytest

from market_data.alerts import digests, sent
from market_data.core.errors import BrokenObject
from market_data.http import file_store
from market_data.http.call_state import CallState
from market_data.lake import failures, parquet, receipts
from market_data.lake.store import Lake
from market_data.maintenance import journal, ledger_rebuild
from market_data.maintenance.audit import result
from market_data.pipeline import report_document
from market_data.views import quality, run_reports, runs
from tests.lake.test_receipts import absent

DEEP = b"[" * 100_000
FORMS = [
    DEEP,
    b'{"a":' * 100_000,
    b"",
    b"null",
    b"7",
    b"[]",
    b"[7]",
    b"[[]]",
    b"{}",
    b'"x"',
    b"\xff",
    b"1e400",
    b"NaN",
    b'{"a": 1e400}',
]


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}")


def stored(lake, key, body):
    lake.put_new(key, body)
    return key


def audit(lake, body):
    stored(lake, "audits/ohlcv-1d/provider=polygon/date=2026-11-20/x.json", body)
    place = SimpleNamespace(lake=lake, source="polygon", selection=SimpleNamespace(dataset=SimpleNamespace(name="ohlcv-1d")))
    return quality.latest_audit(place)["counts"]


READERS = {
    "failures": lambda lake, body: failures._readable("x", body),
    "messages sent": lambda lake, body: sent._decoded(body)[1],
    "digest": lambda lake, body: digests._attempt(
        lambda: digests._entry(lambda found: found["a"]["b"], SimpleNamespace(body=body, etag="e")), "x"
    ),
    "digests": lambda lake, body: digests._cached(lake, stored(lake, "x.json", body)),
    "kept report": lambda lake, body: run_reports._kept("x", body),
    "page Run": lambda lake, body: runs.report_of(lake, stored(lake, "x.json", body))["open_cells"],
    "audit": audit,
    "scope": lambda lake, body: result._scope(lake, stored(lake, "x.json", body)) is not result.NOTHING,
    "verdicts": lambda lake, body: ledger_rebuild._read_verdicts(lake, stored(lake, "x.json", body)),
    "report of the run": lambda lake, body: report_document._same_run(body, {"dag_id": "d", "run_id": "r", "clear_number": 0}),
    "calls": lambda lake, body: CallState.parse(body.decode(errors="replace")) != CallState(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_document_of_another_form_holds_nothing(name, tmp_path):
    for number, body in enumerate(FORMS):
        (tmp_path / str(number)).mkdir()
        assert not READERS[name](Lake.open(f"file://{tmp_path / str(number)}"), body), body[:20]


@pytest.mark.parametrize("body", FORMS[:-1], ids=lambda body: str(body[:12]))
def test_the_call_log_of_a_host_begins_anew(body, tmp_path):
    (tmp_path / "log").write_bytes(body)
    assert file_store._fields(tmp_path / "log") == {}


@pytest.mark.parametrize("body", FORMS, ids=lambda body: str(body[:12]))
def test_the_journal_reports_an_entry_of_another_form(body):
    with pytest.raises(ValueError):  # noqa: PT011  that is what `entries` takes
        journal.Entry.read(body)


def documents():
    """Receipts with one value replaced."""
    good = absent("x").to_json()
    for path in paths(good):
        for value in (None, -1, 1e400, 10**30, "", "x", "9999-99-99", [], [[]], {}, True):
            found = json.loads(json.dumps(good))
            place = found
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = value
            yield found


def paths(value, before=()):
    for name, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*before, name)
        yield from paths(below, (*before, name))


def test_a_receipt_with_any_other_value_is_read_or_reported():
    refused = 0
    for document in documents():
        try:
            receipts.from_footer(json.dumps(document))
        except BrokenObject:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("body", FORMS, ids=lambda body: str(body[:12]))
def test_a_receipt_of_another_form_is_reported(body):
    with pytest.raises(BrokenObject):
        receipts.from_footer(body.decode(errors="replace"))


def test_a_receipt_without_a_column_of_its_objects_is_reported(lake):
    rows = receipts.OBJECTS.empty_table().drop_columns([receipts.OBJECTS.names[-1]])
    body = parquet.encode(rows, {receipts.FIELD: json.dumps(absent("x").to_json())})
    with pytest.raises(BrokenObject):
        receipts.read_one(lake, stored(lake, "receipts/x.parquet", body))


def test_a_failure_without_time_zone_does_not_count(lake):
    event = {"kind": "failed", "batch_id": "b", "at": "2026-11-20T12:00:00", "error": "", "calls": 0, "retries": 0, "bytes": 0}
    assert failures._readable("x", json.dumps([event]).encode()) == ()
    assert len(failures._readable("x", json.dumps([{**event, "at": "2026-11-20T12:00:00+00:00"}]).encode())) == 1
