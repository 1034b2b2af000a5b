"""The store in both databases: nothing that was confirmed is lost, and nothing is ever changed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from palmette.data.records import Answer, Document, Question
from palmette.errors import DataError, RunError
from palmette.review import schema
from palmette.review.events import Event, Shown, Span, Verdict, document_hash
from palmette.review.store import Store
from palmette.store.engine import connect, describe
from tests.support.paths import SOURCE
from tests.support.reviewing import TEXT, document, event, shown, span, verdict

COLUMNS = {"review_documents": "title", "review_questions": "text", "review_events": "run"}
CANDIDATES = shown(strategy="mixed", score=1.25, sampling_probability=1 / 3, blind=True)


def all_kinds() -> list[Event]:
    """One event of each kind, with every value that an event may have."""
    return [
        event("shown", shown=CANDIDATES, prompt_sha256="p" * 64, run="quickstart", run_sha256="r" * 64),
        event("verdict", after=0.000001, verdict=verdict("edit", "naïve (nai\u0308ve) island", 1 / 3)),
        event("undo", after=2.5, undoes=2),
        event("verdict", "Борис", after=3, shown=shown(None), verdict=verdict("accept")),
        event("adjudicated", "ann", after=4, verdict=verdict("no_answer")),
    ]


def test_events_come_back_as_they_were(store: Store, where: str) -> None:
    given = all_kinds()
    assert store.append(given[:2]) + store.append(given[2:]) == [1, 2, 3, 4, 5]
    with Store.open(where) as again:
        found = list(again.events())
    assert [(one.kind, one.time, one.shown, one.verdict, one.undoes, one.run) for one in found] == [
        (one.kind, one.time, one.shown, one.verdict, one.undoes, one.run) for one in given
    ]
    assert [one.id for one in store.events(after=3)] == [4, 5]
    assert list(store.events(after=5)) == []


def test_events_of_another_store_are_renumbered_with_their_undoes(store: Store) -> None:
    """They begin at 1 there, and after one event here. A foreign undo must not hit the event that is here already."""
    store.append([event("verdict", "bob", verdict=verdict("skip"))])
    foreign = [replace(one, id=number) for number, one in enumerate(all_kinds(), start=1)]
    assert store.import_events(foreign) == [2, 3, 4, 5, 6]
    assert [one.undoes for one in store.events()] == [None, None, None, 3, None, None]
    with pytest.raises(DataError, match="undoes event 1, which is not among them"):
        store.import_events([replace(event("undo", "bob", undoes=1), id=7)])


def test_documents_and_questions_come_back_as_they_were(store: Store) -> None:
    known = Document(
        "other", "Bees dance.", (Question("q2", "Who?", (Answer("Bees", 0),)), Question("q1", "When?")), "Bees"
    )
    store.add_documents([known, document()])
    first, second = store.documents()
    assert (first.id, first.text) == (document_hash(TEXT), TEXT)
    assert [one.id for one in first.questions] == ["when", "where", "who"]
    assert (second.text, second.title, second.questions) == (known.text, "Bees", known.questions)
    assert list(store.questions()) == ["when", "where", "who", "q2", "q1"]
    assert store.document(document_hash("Bees dance.")) == "Bees dance."


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document("other", "Another text.", (Question("when", "When?"),)), "'when' already, with another document"),
        (Document("t", TEXT, (Question("when", "Why?"),)), "'when' already, with another text"),
        (Document("t", TEXT, (Question("when", "When?", (Answer("The", 0),)),)), "with another answers"),
    ],
)
def test_a_question_cannot_become_another(store: Store, document: Document, message: str) -> None:
    with pytest.raises(DataError, match=message):
        store.add_documents([Document("new", "New.", (Question("new", "New?"),)), document])
    assert "new" not in store.questions(), "all or nothing"


def test_an_event_of_an_unknown_question_is_refused_with_all_that_came_with_it(store: Store) -> None:
    good, bad = (event("verdict", question=name, verdict=verdict("reject")) for name in ("when", "why"))
    with pytest.raises(DataError, match="no question 'why'"):
        store.append([good, bad])
    assert list(store.events()) == []


def test_spans_must_be_slices_of_their_document(store: Store) -> None:
    """The ship takes two units of UTF-16, so offsets that a browser counted are off by one after it."""
    right = span("7:40")
    for start in (right.start + 1, right.start + 100):
        moved = Span("7:40", start, start + 4)
        for wrong in (
            event("verdict", verdict=Verdict("edit", moved)),
            event("shown", shown=Shown(moved, 0.5, 0.5)),
        ):
            with pytest.raises(DataError, match="'7:40' does not stand at"):
                store.append([wrong])
    with pytest.raises(DataError, match="question is about"):
        store.append([Event("shown", all_kinds()[0].time, "ann", "s", "when", "0" * 64, shown=shown())])
    assert list(store.events()) == []


def test_only_a_verdict_of_ones_own_can_be_undone(store: Store) -> None:
    ids = store.append([event("verdict", verdict=verdict("reject")), event("shown", shown=shown())])
    for wrong in (
        event("undo", undoes=ids[1]),
        event("undo", undoes=99),
        event("undo", "bob", undoes=ids[0]),
        event("undo", question="who", undoes=ids[0]),
    ):
        with pytest.raises(DataError, match="cannot be undone"):
            store.append([wrong])
    assert store.append([event("undo", undoes=ids[0])]) == [3]


def test_the_database_refuses_every_change_of_a_row(store: Store, where: str) -> None:
    store.append([event("verdict", verdict=verdict("reject"))])
    engine = connect(where)
    attempts = [f"UPDATE {table} SET {column} = {column}" for table, column in COLUMNS.items()]
    attempts += [f"DELETE FROM {table}" for table in COLUMNS]
    if engine.dialect.name == "sqlite":
        attempts += [f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}" for table in COLUMNS]
    else:
        attempts += [f"TRUNCATE {table} CASCADE" for table in COLUMNS]
        attempts += ["INSERT INTO review_events SELECT * FROM review_events ON CONFLICT (id) DO UPDATE SET run = 'x'"]
    for attempt in attempts:
        with pytest.raises(sa.exc.DBAPIError, match="are only ever added"), engine.begin() as connection:
            connection.execute(sa.text(attempt))
    engine.dispose()
    (kept,) = store.events()
    assert kept.verdict == verdict("reject")


def test_the_audit_set_is_frozen_before_the_first_verdict(store: Store, where: str) -> None:
    assert store.audit() is None
    with pytest.raises(DataError, match="no question 'why'"):
        store.freeze_audit(["why"], 0.5)
    store.append([event("shown", shown=shown())])
    frozen = store.freeze_audit(["who", "when"], 0.25)
    assert frozen.questions == ("when", "who"), "in the order of the data"
    assert frozen.sampling_probability == 0.25
    assert store.audit() == frozen
    with pytest.raises(DataError, match="audit set already"):
        store.freeze_audit(["where"], 0.25)
    engine = connect(where)
    with pytest.raises(sa.exc.DBAPIError, match="are only ever added"), engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM review_audit"))
    engine.dispose()


def test_an_audit_set_after_a_verdict_is_refused(store: Store) -> None:
    store.append([event("verdict", verdict=verdict("reject"))])
    with pytest.raises(DataError, match="has verdicts already"):
        store.freeze_audit(["who"], 0.25)


def test_migrations_go_up_and_down_to_the_tables_that_the_code_knows(where: str) -> None:
    engine = connect(where)
    for _ in range(2):
        with engine.execution_options(writes=True).begin() as connection:
            schema.CHAIN.migrate(connection)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": schema.CHAIN.version_table})
            assert compare_metadata(context, schema.METADATA) == []
            assert schema.CHAIN.version(connection) == schema.CHAIN.newest()
        with engine.execution_options(writes=True).begin() as connection:
            schema.CHAIN.migrate(connection, "base")
        names = set(sa.inspect(engine).get_table_names())
        assert names <= {schema.CHAIN.version_table}
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(where: str) -> None:
    Store.open(where).close()
    engine = connect(where)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema.CHAIN.version_table} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DataError, match=r"newer version of palmette .*9999"):
        Store.open(where)


WRITER = """
import sys
from palmette.review.store import Store
from tests.support.reviewing import event, verdict

store = Store.open(sys.argv[1])
for number in range(100_000):
    (given,) = store.append([event("verdict", after=number, verdict=verdict("reject", seconds=number))])
    print(given, flush=True)
"""


def writer(where: str, code: str = WRITER) -> subprocess.Popen[str]:
    root = SOURCE.parents[1]
    path = os.pathsep.join([str(SOURCE.parent), str(root)])
    return subprocess.Popen(
        [sys.executable, "-c", code, where], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_a_killed_process_loses_nothing_that_it_confirmed(store: Store, where: str) -> None:
    """The process is killed with SIGKILL while it writes, three times, and every id that it printed is there."""
    confirmed: set[int] = set()
    for round_ in range(3):
        process = writer(where)
        assert process.stdout is not None
        for _ in range(20 + round_):
            confirmed.add(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        confirmed |= {int(line) for line in process.stdout.read().splitlines() if line.isdigit()}
        process.wait(30)
        process.stdout.close()
    stored = {one.id for one in store.events()}
    assert len(confirmed) >= 60
    assert confirmed <= stored
    assert len(stored) - len(confirmed) <= 3, "at most one that was written and not printed, each time"


def test_two_writers_at_once_lose_nothing_and_readers_see_rising_ids(store: Store, where: str) -> None:
    """Each of four threads with a store of its own writes; a reader that goes on after the last id misses none."""
    each, seen, done = 40, [], threading.Event()

    def write(name: str) -> None:
        with Store.open(where) as own:
            for number in range(each):
                own.append([event("verdict", name, after=number, verdict=verdict("reject"))] * 2)

    def read() -> None:
        last = 0
        while True:
            finished = done.is_set()
            for one in store.events(after=last):
                assert one.id is not None
                seen.append(one.id)
                last = one.id
            if finished:
                return

    writers = [threading.Thread(target=write, args=(name,)) for name in ("ann", "bob", "eve", "zoe")]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    found = list(store.events())
    assert len(found) == 4 * each * 2
    assert {
        name: sum(one.annotator == name for one in found) for name in ("ann", "bob", "eve", "zoe")
    } == dict.fromkeys(("ann", "bob", "eve", "zoe"), 2 * each)
    assert seen == [one.id for one in found]


def test_several_may_open_a_new_store_at_once(where: str) -> None:
    problems: list[BaseException] = []

    def open_it() -> None:
        try:
            with Store.open(where) as own:
                own.add_documents([document()])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with Store.open(where) as own:
        assert len(own.questions()) == 3


def test_a_full_disk_is_one_line_and_keeps_what_was_confirmed(tmp_path: Path) -> None:
    """SQLite itself says that the database may not grow any more, as a full disk does."""
    path = tmp_path / "review.db"
    with Store.open(path) as store:
        store.add_documents([document()])
        store.append([event("verdict", verdict=verdict("reject"))])
        sa.event.listen(store._engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count=1"))
        store._engine.dispose()
        many = [event("verdict", after=number, verdict=verdict("reject")) for number in range(2000)]
        with pytest.raises(RunError, match=r"full.*Free some space") as found:
            store.append(many)
        assert "\n" not in str(found.value)
    with Store.open(path) as store:
        assert len(list(store.events())) == 1


def test_what_is_no_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    (tmp_path / "folder").mkdir()
    for where, message in (
        (tmp_path / "text.db", "is not a store of verdicts or votes"),
        (tmp_path / "folder", "it is a folder"),
        (tmp_path / "missing" / "review.db", "folder does not exist"),
        ("mysql://ann:secret@localhost/x", "mysql://ann@localhost/x: verdicts and votes are not kept in mysql"),
        ("postgresql://ann:secret@127.0.0.1:1/x", "postgresql://ann@127.0.0.1:1/x cannot be used: .*refused"),
        ("a b://c", "is not the URL of a database"),
    ):
        with pytest.raises((DataError, RunError), match=message) as found:
            Store.open(where)
        assert "\n" not in str(found.value)
        assert "secret" not in str(found.value)


def test_a_sqlite_store_waits_for_the_disk(tmp_path: Path) -> None:
    """FULL is 2: SQLite flushes its log before a commit returns."""
    with Store.open(tmp_path / "review.db") as store, store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    with sqlite3.connect(tmp_path / "review.db") as raw:
        assert raw.execute("SELECT count(*) FROM review_events").fetchone() == (0,)


def test_a_password_is_never_shown() -> None:
    assert describe("postgresql://a:b@h/n") == "postgresql://a@h/n"
    assert describe(Path("a:b@c.db")) == "a:b@c.db"
