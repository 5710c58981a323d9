-- Nodes, leases, definitions, receipts and the MessageBox.
--
-- Times are milliseconds since 1970 by the store's clock. Ids of messages and bodies are the 16
-- bytes of a UUID. Expiry of leases is not here: it is a file beside the database, so that a
-- renewal never waits for a publish.

CREATE TABLE node (
    name      TEXT PRIMARY KEY,
    machine   TEXT NOT NULL,
    pid       INTEGER NOT NULL,
    version   TEXT NOT NULL,
    joined_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A row is never deleted and its epoch never goes back: a vacant lease has no holder.
CREATE TABLE lease (
    name       TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    holder     TEXT,
    changed_at INTEGER NOT NULL,
    cause      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    offered_to TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_history (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    lease    TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    holder   TEXT,
    before   TEXT,
    evidence TEXT NOT NULL,
    cause    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX lease_history_at ON lease_history (at);

CREATE TABLE definitions (
    version    INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL,
    applied_by TEXT NOT NULL,
    document   TEXT NOT NULL
) STRICT;

-- The send ports of the definitions in force, and nothing older.
CREATE TABLE subscription (
    port                TEXT PRIMARY KEY,
    host                TEXT NOT NULL,
    filter              TEXT NOT NULL,
    definitions_version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE move_request (
    "group" TEXT PRIMARY KEY,
    "to"    TEXT,
    "by"    TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
    source      TEXT NOT NULL,
    key         TEXT NOT NULL,
    message_id  BLOB NOT NULL,
    lease       TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    closed_at   INTEGER,
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_closed ON receipt (closed_at) WHERE closed_at IS NOT NULL;

-- A body in chunks: staged until it is complete, then part of one message, then dropped. The
-- chunks of a dropped one go a bounded number at a time.
CREATE TABLE body (
    id         BLOB PRIMARY KEY,
    source     TEXT,
    item_key   TEXT,
    bytes      INTEGER NOT NULL,
    complete   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    dropped_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX body_staged ON body (source, item_key)
    WHERE complete = 0 AND dropped_at IS NULL;
CREATE INDEX body_abandoned ON body (updated_at) WHERE complete = 0 AND dropped_at IS NULL;
CREATE INDEX body_dropped ON body (dropped_at) WHERE dropped_at IS NOT NULL;

-- With a rowid, unlike most tables here: rows of a megabyte make a bad index b-tree.
CREATE TABLE body_chunk (
    body_id      BLOB NOT NULL,
    start_offset INTEGER NOT NULL,
    data         BLOB NOT NULL,
    PRIMARY KEY (body_id, start_offset)
) STRICT;

-- work_rows counts the rows of work that still need the message; it goes with the last.
-- Work refers to the row and not to the id: it is found without a search in a second tree.
CREATE TABLE message (
    "row"        INTEGER PRIMARY KEY,
    id           BLOB NOT NULL UNIQUE,
    published_at INTEGER NOT NULL,
    publisher    TEXT NOT NULL,
    lease        TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    context      TEXT NOT NULL,
    body_bytes   INTEGER NOT NULL,
    inline_body  BLOB,
    body_id      BLOB,
    work_rows    INTEGER NOT NULL
) STRICT;

-- state: 0 ready, 1 active, 2 suspended, 3 postponed (ready once ready_at has come).
-- Routing failures are suspended with an empty host and port.
CREATE TABLE work (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    message_row     INTEGER NOT NULL,
    host            TEXT NOT NULL,
    port            TEXT NOT NULL,
    state           INTEGER NOT NULL,
    ready_at        INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    maybe_delivered INTEGER NOT NULL,
    held_lease      TEXT,
    held_epoch      INTEGER,
    error           TEXT
) STRICT;
CREATE INDEX work_ready ON work (host, id) WHERE state = 0;
CREATE INDEX work_postponed ON work (host, ready_at) WHERE state = 3;
CREATE INDEX work_held ON work (held_lease) WHERE state = 1;

CREATE TABLE location_report (
    location        TEXT PRIMARY KEY,
    node            TEXT NOT NULL,
    epoch           INTEGER NOT NULL,
    active_since    INTEGER,
    last_success_at INTEGER,
    last_error_at   INTEGER,
    last_error      TEXT,
    received        INTEGER NOT NULL,
    guarantee       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
