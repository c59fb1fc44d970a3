"""The tables of a city and how they came to be: numbered steps, taken once, whoever opens the store first."""

from __future__ import annotations

import zlib

from twin_actors.store.base import StoreDamaged
from twin_actors.store.postgres.session import Connection

# Offsets and sizes are bigint, moments are seconds since the epoch (UTC) as double precision.
_STEPS: tuple[str, ...] = (
    """
    CREATE TABLE epochs (
        name text COLLATE "C" PRIMARY KEY,
        epoch bigint NOT NULL
    ) WITH (fillfactor = 50);

    -- one row a router share; bytes are counted since the first entry there ever was. Entries before trimmed_offset
    -- are history, those before rolled_offset are in rollups too, those before kept_offset are gone
    CREATE TABLE logs (
        share_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        share text COLLATE "C" NOT NULL UNIQUE,
        began_offset bigint NOT NULL DEFAULT 0,
        next_offset bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        kept_offset bigint NOT NULL DEFAULT 0,
        rolled_offset bigint NOT NULL DEFAULT 0,
        trimmed_offset bigint NOT NULL DEFAULT 0,
        trimmed_bytes bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);

    -- which offsets lie in which partition of entries, and in which span of time they were received
    CREATE TABLE segments (
        share_no integer NOT NULL REFERENCES logs,
        first_offset bigint NOT NULL,
        stop_offset bigint NOT NULL,
        since_s double precision NOT NULL DEFAULT 'Infinity',
        until_s double precision NOT NULL DEFAULT '-Infinity',
        PRIMARY KEY (share_no, first_offset)
    ) WITH (fillfactor = 50);

    CREATE TABLE entries (
        log_offset bigint NOT NULL,
        received_at_s double precision NOT NULL,
        share_no integer NOT NULL,
        entity integer NOT NULL,
        source integer NOT NULL,
        channel smallint NOT NULL,
        payload bytea NOT NULL,
        PRIMARY KEY (share_no, log_offset)
    ) PARTITION BY RANGE (share_no, log_offset);
    CREATE INDEX entries_of ON entries (entity, received_at_s);

    CREATE TABLE fields (
        field_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        label text COLLATE "C" NOT NULL UNIQUE
    );
    -- at_s is where a bucket of width_s seconds begins
    CREATE TABLE rollups (
        at_s bigint NOT NULL,
        count bigint NOT NULL,
        minimum double precision NOT NULL,
        maximum double precision NOT NULL,
        total double precision NOT NULL,
        last double precision NOT NULL,
        last_at_s double precision NOT NULL,
        share_no integer NOT NULL REFERENCES logs,
        entity integer NOT NULL,
        field_no integer NOT NULL REFERENCES fields,
        width_s integer NOT NULL,
        PRIMARY KEY (share_no, entity, field_no, width_s, at_s)
    );
    CREATE INDEX rollups_old ON rollups USING brin (at_s);

    CREATE TABLE snapshots (
        name text COLLATE "C" NOT NULL,
        log_offset bigint NOT NULL,
        epoch bigint NOT NULL,
        at_s double precision NOT NULL,
        crc bigint NOT NULL,
        blob bytea NOT NULL,
        PRIMARY KEY (name, log_offset)
    );
    ALTER TABLE snapshots ALTER COLUMN blob SET STORAGE EXTERNAL;

    CREATE TABLE dead_letters (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        share text COLLATE "C" NOT NULL,
        log_offset bigint NOT NULL,
        element integer NOT NULL,
        state text NOT NULL,
        received_at_s double precision NOT NULL,
        topic text NOT NULL,
        reason text NOT NULL,
        detail text NOT NULL,
        payload bytea NOT NULL
    );
    CREATE UNIQUE INDEX dead_letters_place ON dead_letters (share, log_offset, element) WHERE log_offset >= 0;
    CREATE INDEX dead_letters_state ON dead_letters (state, id);

    -- json, not jsonb: what was recorded comes back byte for byte, U+0000 in a text included
    CREATE TABLE records (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        of_table text COLLATE "C" NOT NULL,
        id text COLLATE "C",
        written_at timestamptz NOT NULL DEFAULT now(),
        row json NOT NULL
    );
    CREATE UNIQUE INDEX records_id ON records (of_table, id) WHERE id IS NOT NULL;
    CREATE INDEX records_newest ON records (of_table, seq);

    CREATE TABLE registry (
        key text COLLATE "C" PRIMARY KEY,
        value bytea NOT NULL
    );
    """,
)

VERSION = len(_STEPS)


def migrate(connection: Connection, schema: str) -> None:
    """Bring the schema to this version, in the caller's transaction.

    Many processes may do so at once: one works, the others wait for it (advisory lock). Raises StoreDamaged when a
    newer version of the software has been here.
    """
    if _version(connection, schema) != VERSION:
        number = zlib.crc32(f"twin-actors {schema}".encode())
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (number,))
        if connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() == (None,):
            connection.execute(f"CREATE SCHEMA {schema}".encode())  # a name that Address has checked
    version = _version(connection, schema)
    if version > VERSION:
        raise StoreDamaged(
            f"schema {schema!r} is of version {version}, written by a newer Twin Actors; this one knows {VERSION}: "
            "upgrade it, or restore a backup of the older version into another schema"
        )
    for step in _STEPS[version:]:
        connection.execute(step.encode())
    if version == 0:
        connection.execute("CREATE TABLE schema_version (version integer NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (%s)", (VERSION,))
    elif version < VERSION:
        connection.execute("UPDATE schema_version SET version = %s", (VERSION,))


def _version(connection: Connection, schema: str) -> int:
    if connection.execute("SELECT to_regclass(%s)", (f"{schema}.schema_version",)).fetchone() == (None,):
        return 0
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    return int(row[0]) if row else 0
