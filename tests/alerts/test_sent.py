"""The record of sent messages: watchers that overlap, die, or cannot deliver."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from market_data.alerts.cause import Cause
from market_data.alerts.sent import KEY, LEASE, deliver, read_state
from market_data.lake.store import Lake

NOW = datetime(2024, 3, 7, 12, tzinfo=UTC)
LATE = Cause("session/f/2024-03-06", "f", "f 2024-03-06: late", ("3 missing",), "trigger it")
EVENT = Cause("restated/f/r/0", "f", "f: 9 rows were restated", (), "look", event=True)


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


class Sender:
    def __init__(self):
        self.titles, self.error = [], None

    def __call__(self, message):
        if self.error:
            raise self.error
        self.titles.append(message.title)


def tell(lake, causes, at=NOW, seen_at=None, **notifiers):
    return deliver(lake, causes, notifiers, lambda: at, seen_at or at)


def test_a_notifier_that_fails_is_tried_again_and_the_others_are_not_told_twice(lake):
    mail, chat = Sender(), Sender()
    mail.error = OSError("smtp://user:secret@host")
    done = tell(lake, [LATE], mail=mail, chat=chat)
    assert (done.sent, done.failed) == (["chat: f 2024-03-06: late"], ["mail: f 2024-03-06: late (OSError)"])
    mail.error = None
    for minutes in (5, 10):
        tell(lake, [LATE], NOW + timedelta(minutes=minutes), mail=mail, chat=chat)
    assert mail.titles == chat.titles == ["f 2024-03-06: late"]


def test_a_notifier_that_hangs_stops_no_other_one(lake, monkeypatch):
    monkeypatch.setattr("market_data.alerts.sent.PATIENCE", 0.05)
    log, mail, gate, calls = Sender(), Sender(), threading.Event(), []

    def hang(message):
        calls.append(message.title)
        gate.wait(5)

    done = tell(lake, [LATE, EVENT], log=log, chat=hang, mail=mail)
    gate.set()
    assert set(log.titles) == set(mail.titles) == {LATE.title, EVENT.title}
    assert len(calls) == len(done.failed) == 1
    assert "not finished after 0.05 s" in done.failed[0]
    chat = Sender()
    tell(lake, [LATE, EVENT], NOW + timedelta(minutes=5), log=log, chat=chat, mail=mail)
    assert sorted(chat.titles) == sorted([LATE.title, EVENT.title])
    assert len(log.titles) == len(mail.titles) == 2


def test_a_view_that_is_older_than_the_state_by_more_than_the_lease_changes_nothing(lake):
    mail = Sender()
    tell(lake, [LATE], NOW, mail=mail)
    tell(lake, [], NOW + timedelta(minutes=1), seen_at=NOW - 2 * LEASE, mail=mail)
    assert list(read_state(lake)) == [LATE.id]


def test_a_state_from_the_future_does_not_stop_messages(lake):
    mail = Sender()
    tell(lake, [], NOW + timedelta(minutes=3), mail=mail)
    tell(lake, [EVENT], NOW + timedelta(minutes=3), mail=mail)
    tell(lake, [EVENT, LATE], NOW, mail=mail)
    assert mail.titles == [EVENT.title, LATE.title]


def test_what_was_never_delivered_has_no_all_clear(lake):
    mail = Sender()
    mail.error = OSError()
    tell(lake, [LATE], mail=mail)
    mail.error = None
    tell(lake, [], NOW + timedelta(minutes=5), mail=mail)
    assert mail.titles == []
    assert read_state(lake) == {}


def test_an_all_clear_that_fails_is_tried_again(lake):
    mail = Sender()
    tell(lake, [LATE], mail=mail)
    mail.error = OSError()
    tell(lake, [], NOW + timedelta(minutes=5), mail=mail)
    mail.error = None
    for minutes in (10, 15):
        tell(lake, [], NOW + timedelta(minutes=minutes), mail=mail)
    assert mail.titles == ["f 2024-03-06: late", "all-clear: f 2024-03-06: late"]
    assert read_state(lake) == {}


def test_a_cause_that_comes_back_is_told_again(lake):
    mail = Sender()
    for minutes, causes in enumerate([[LATE], [LATE], [], [], [LATE]]):
        tell(lake, causes, NOW + timedelta(minutes=5 * minutes), mail=mail)
    assert mail.titles == ["f 2024-03-06: late", "all-clear: f 2024-03-06: late", "f 2024-03-06: late"]


def test_an_event_is_told_once_and_then_forgotten_without_an_all_clear(lake):
    mail = Sender()
    for minutes, causes in enumerate([[EVENT], [EVENT], []]):
        tell(lake, causes, NOW + timedelta(minutes=5 * minutes), mail=mail)
    assert mail.titles == ["f: 9 rows were restated"]
    assert read_state(lake) == {}


def test_watchers_at_the_same_time_send_one_message(lake):
    sent, gate = [], threading.Barrier(6)

    def work():
        gate.wait()
        tell(lake, [LATE, EVENT], mail=lambda message: sent.append(message.title))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == [LATE.title, EVENT.title]


def test_a_watcher_that_dies_between_sending_and_recording_repeats_one_message_once(lake, monkeypatch):
    mail = Sender()
    with monkeypatch.context() as patch:
        patch.setattr("market_data.alerts.sent._record", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tell(lake, [LATE, EVENT], mail=mail)
    assert mail.titles == [LATE.title]
    tell(lake, [LATE, EVENT], NOW + LEASE - timedelta(seconds=1), mail=mail)
    assert mail.titles == [LATE.title]  # its claims hold
    for minutes in (5, 10):
        tell(lake, [LATE, EVENT], NOW + timedelta(minutes=minutes), mail=mail)
    assert sorted(mail.titles) == sorted([LATE.title, LATE.title, EVENT.title])


def test_a_watcher_that_looked_earlier_changes_nothing(lake):
    mail = Sender()
    tell(lake, [LATE], NOW, mail=mail)
    tell(lake, [], NOW + timedelta(seconds=1), seen_at=NOW - timedelta(seconds=1), mail=mail)
    assert mail.titles == [LATE.title]
    assert list(read_state(lake)) == [LATE.id]


def test_a_notifier_that_was_removed_gets_no_all_clear_and_a_new_one_is_told(lake):
    mail, chat = Sender(), Sender()
    tell(lake, [LATE], mail=mail)
    tell(lake, [LATE], NOW + timedelta(minutes=5), chat=chat)
    tell(lake, [], NOW + timedelta(minutes=10), chat=chat)
    assert mail.titles == [LATE.title]
    assert chat.titles == [LATE.title, f"all-clear: {LATE.title}"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"causes": {"x": {}}}', b'{"causes": null}'])
def test_a_state_that_cannot_be_read_is_replaced(lake, body):
    lake.put_new(KEY, body)
    mail = Sender()
    for minutes in (0, 5):
        tell(lake, [LATE], NOW + timedelta(minutes=minutes), mail=mail)
    assert mail.titles == [LATE.title]


def test_nothing_is_written_while_nothing_changes(lake):
    tell(lake, [LATE], mail=Sender())
    before = lake.get(KEY).etag
    tell(lake, [LATE], NOW + timedelta(minutes=5), mail=Sender())
    assert lake.get(KEY).etag == before
