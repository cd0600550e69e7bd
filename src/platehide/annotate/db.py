"""The database: one engine, short transactions, one writer at a time on SQLite."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from platehide.annotate import schema
from platehide.errors import UsageError

AnyRow = Any
"""A result row of a select; its columns are known only to the query."""

SCHEMA_VERSION = "1"
_APPEND_ONLY = "the log is append-only"


def new_id() -> str:
    """A random public id: 96 bits, no order, no meaning."""
    return secrets.token_hex(12)


def digest(secret: str) -> str:
    """What is stored of a token (it has ≥ 192 random bits, so no salt is needed)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _database_url(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise UsageError(
            f"--db {url!r} is not a database URL; give sqlite:///FILE or postgresql://…"
        ) from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise UsageError(f"--db {url!r}: only SQLite and Postgres are supported")
    return parsed


class Database:
    """Opens the store and hands out transactions.

    SQLite runs in WAL mode with ``synchronous=FULL``: what was acknowledged is on the disk, and
    readers never wait. Writers take turns on a lock here, because a lock is fairer and cheaper
    than SQLite's busy loop; Postgres uses its own locks.

    Args:
        durable: wait for the disk; only simulations and benchmarks of the logic do not.

    Raises:
        UsageError: the URL is unusable, the database cannot be reached or is of another version.
    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self.durable = durable
        self.url = _database_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._lock = threading.RLock()
        options: dict[str, Any] = {}
        if self.is_sqlite:
            options["connect_args"] = {"check_same_thread": False, "timeout": 30}
            if self.url.database in {None, "", ":memory:"}:
                raise UsageError(f"--db {url!r}: name a file, sqlite:///FILE")
            options.update(pool_size=16, max_overflow=48)
        else:
            options.update(pool_size=16, max_overflow=32, pool_pre_ping=True)
        self.engine: Engine = sa.create_engine(self.url, **options)
        if self.is_sqlite:
            self._prepare_sqlite()
        try:
            self._create()
        except sa.exc.OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise UsageError(f"cannot open the database {self.url!r}: {reason}") from error

    def _prepare_sqlite(self) -> None:
        @sa.event.listens_for(self.engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            del record
            connection.isolation_level = None  # we say BEGIN ourselves
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL" if self.durable else "synchronous=OFF",
                "foreign_keys=ON",
                "busy_timeout=30000",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(self.engine, "begin")
        def _begin(connection: Connection) -> None:
            write = connection.get_execution_options().get("platehide_write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    def _create(self) -> None:
        with self.write() as connection:
            schema.metadata.create_all(connection)
            found = connection.execute(
                sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema")
            ).scalar()
            if found is None:
                connection.execute(schema.meta.insert().values(key="schema", value=SCHEMA_VERSION))
                self._protect_log(connection)
            elif found != SCHEMA_VERSION:
                raise UsageError(
                    f"{self.url!r} has schema version {found}, this program {SCHEMA_VERSION}"
                )

    def _protect_log(self, connection: Connection) -> None:
        if self.is_sqlite:
            for verb in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(
                    f"CREATE TRIGGER log_no_{verb.lower()} BEFORE {verb} ON log "
                    f"BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
                )
            return
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION log_is_append_only() RETURNS trigger AS "
            f"$$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$ LANGUAGE plpgsql"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log "
            "FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only()"
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads (a consistent snapshot on SQLite)."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, lock: str = "") -> Iterator[Connection]:
        """A transaction that writes; rolled back on any exception.

        Args:
            lock: on Postgres, what to serialise on (a project id) besides row locks.
        """
        if not self.is_sqlite:
            with self.engine.connect() as connection, connection.begin():
                if lock:
                    serialise(connection, lock)
                yield connection
            return
        with self._lock, self.engine.connect() as connection:
            connection = connection.execution_options(platehide_write=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def serialise(connection: Connection, key: str) -> None:
    """On Postgres: wait until no other transaction holds ``key``, hold it to the end."""
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


def upsert(
    connection: Connection, table: sa.Table, keys: tuple[str, ...], row: dict[str, Any]
) -> None:
    """Insert ``row`` or update the row with the same ``keys`` (both databases know this form)."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        pg = pg_insert(table).values(**row)
        connection.execute(
            pg.on_conflict_do_update(
                index_elements=list(keys), set_={k: v for k, v in row.items() if k not in keys}
            )
        )
        return
    from sqlalchemy.dialects.sqlite import insert as lite_insert

    lite = lite_insert(table).values(**row)
    connection.execute(
        lite.on_conflict_do_update(
            index_elements=list(keys), set_={k: v for k, v in row.items() if k not in keys}
        )
    )
