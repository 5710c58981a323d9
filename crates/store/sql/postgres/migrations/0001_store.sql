-- The first layout. Times are milliseconds since 1970 by the store's clock (baton_now()).
-- Bodies are stored as they come (STORAGE EXTERNAL): compressing them costs more than it saves.
-- There are no foreign keys: each row of another table that a publish would have to lock for one
-- costs more than the insert itself, and every writer here is one of the methods of `Store`.
-- Names and keys are compared by their bytes (COLLATE "C"), which is quick and the same everywhere.

-- The store's clock; clock_timestamp(), because now() stands still within a transaction.
CREATE FUNCTION baton_now() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT floor(date_part('epoch', clock_timestamp()) * 1000)::bigint $$;

CREATE TABLE node (
    id serial PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    machine text NOT NULL DEFAULT '',
    pid bigint NOT NULL DEFAULT 0,
    version text NOT NULL DEFAULT '',
    joined_at bigint NOT NULL DEFAULT 0,
    -- When it last took its liveness lock: a lock that is gone says something only if it was there
    -- since the store itself came back.
    connected_at bigint NOT NULL DEFAULT 0
);

-- Room for updates in the page: publishers mark the row with their share locks.
CREATE TABLE lease (
    name text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch > 0),
    holder text COLLATE "C",
    cause text NOT NULL,
    reason text NOT NULL,
    offered_to text,
    changed_at bigint NOT NULL
) WITH (fillfactor = 50);

-- Apart from `lease`, so that a renewal never waits for a publish. A vacated lease has no row.
CREATE TABLE lease_expiry (
    name text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    expires_at bigint NOT NULL,
    -- What the owner was last given: so long it has to renew after the store itself was away.
    ttl bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE lease_history (
    id bigserial PRIMARY KEY,
    lease text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    holder text,
    before text,
    evidence text NOT NULL,
    cause text NOT NULL,
    reason text NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX lease_history_at ON lease_history (at);

-- One row for each life of the database server that cannot be told from pg_postmaster_start_time():
-- a standby that was promoted has been up for long, but its lease expiries and locks begin anew,
-- and so do the locks of a server whose sessions were all ended because one of them crashed. An
-- unlogged table is empty after either.
CREATE UNLOGGED TABLE store_life (
    timeline text PRIMARY KEY,
    began_at bigint NOT NULL
);

CREATE FUNCTION baton_timeline() RETURNS text LANGUAGE sql STABLE
AS $$ SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) $$;

-- Since when owners could have renewed; the present while this life was not recorded yet.
CREATE FUNCTION baton_up_since() RETURNS bigint LANGUAGE sql STABLE
AS $$
    SELECT greatest(
        floor(date_part('epoch', pg_postmaster_start_time()) * 1000)::bigint,
        coalesce(
            (SELECT began_at FROM store_life WHERE timeline = baton_timeline()), baton_now()))
$$;

-- The liveness lock of a node is the session lock (1650553967, node.id), 1650553967 being 'bato'
-- in ASCII. The two-key form cannot collide with baton_fence_key(), which has one key.
CREATE FUNCTION baton_connected(node_id integer) RETURNS boolean LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 1650553967::oid AND objsubid = 2 AND granted
            AND objid = node_id::oid
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
$$;

CREATE FUNCTION baton_fence_key(lease text) RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtextextended(lease, 0) $$;

CREATE FUNCTION baton_routes_key() RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtextextended('definitions', 1) $$;

CREATE TABLE definitions (
    version bigint PRIMARY KEY,
    document text NOT NULL,
    applied_by text NOT NULL,
    applied_at bigint NOT NULL
);

-- The send ports of the definitions in force, and nothing older.
CREATE TABLE subscription (
    port text COLLATE "C" PRIMARY KEY,
    host text NOT NULL,
    filter text NOT NULL,
    definitions_version bigint NOT NULL
);

-- Proves ownership inside the writing transaction. Two statements in this order, and each matters:
-- 1. the shared advisory lock queues fairly with a takeover, which takes it exclusively (a row lock
--    alone lets busy publishers starve the takeover for tens of seconds);
-- 2. the row is read by a statement that *begins* after the lock is held. In a volatile plpgsql
--    function under READ COMMITTED each statement has a snapshot of its own, so this one sees a
--    takeover that committed while (1) waited; in one SQL statement it would not. FOR SHARE keeps
--    it true until this transaction ends, at any isolation level.
CREATE FUNCTION baton_fence(
    fence_lease text, fence_epoch bigint, fence_holder text, routed_by bigint DEFAULT NULL
) RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    in_force bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(baton_fence_key(fence_lease));
    PERFORM 1 FROM lease
        WHERE name = fence_lease AND epoch = fence_epoch AND holder = fence_holder
        FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'stale fence' USING ERRCODE = 'BT001';
    END IF;
    IF routed_by IS NOT NULL THEN
        -- Shared until the end of the publish; who applies definitions takes it exclusively. So no
        -- message is committed along old routes once others are in force.
        PERFORM pg_advisory_xact_lock_shared(baton_routes_key());
        SELECT coalesce(max(version), 0) INTO in_force FROM definitions;
        IF in_force <> routed_by THEN
            RAISE EXCEPTION '%', in_force USING ERRCODE = 'BT002';
        END IF;
    END IF;
END
$$;

CREATE TABLE move_request (
    "group" text COLLATE "C" PRIMARY KEY,
    "to" text,
    by text NOT NULL,
    at bigint NOT NULL
);

CREATE TABLE receipt (
    source text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    message_id uuid NOT NULL,
    lease text NOT NULL,
    epoch bigint NOT NULL,
    received_at bigint NOT NULL,
    closed_at bigint,
    PRIMARY KEY (source, key)
);
CREATE INDEX receipt_closed ON receipt (closed_at) WHERE closed_at IS NOT NULL;

-- A body in chunks: staged until it is complete, then part of one message, then dropped. The
-- chunks of a dropped one go a bounded number at a time: gigabytes take seconds to delete.
CREATE TABLE body (
    id uuid PRIMARY KEY,
    source text COLLATE "C",
    item_key text COLLATE "C",
    bytes bigint NOT NULL,
    complete boolean NOT NULL,
    updated_at bigint NOT NULL,
    dropped_at bigint
);
CREATE UNIQUE INDEX body_staged ON body (source, item_key)
    WHERE NOT complete AND dropped_at IS NULL;
CREATE INDEX body_abandoned ON body (updated_at) WHERE NOT complete AND dropped_at IS NULL;
CREATE INDEX body_dropped ON body (dropped_at) WHERE dropped_at IS NOT NULL;

CREATE TABLE body_chunk (
    body_id uuid NOT NULL,
    start_offset bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (body_id, start_offset)
);
ALTER TABLE body_chunk ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE message (
    id uuid PRIMARY KEY,
    published_at bigint NOT NULL,
    epoch bigint NOT NULL,
    body_bytes bigint NOT NULL,
    body_id uuid,
    -- Rows of work that still need the message; it goes with the last.
    work_rows integer NOT NULL,
    lease text NOT NULL,
    publisher text NOT NULL,
    -- JSON as text: jsonb cannot hold the character U+0000, and nothing here looks inside.
    context text NOT NULL,
    inline_body bytea
);
ALTER TABLE message ALTER COLUMN inline_body SET STORAGE EXTERNAL;

-- state: 0 ready, 1 active, 2 suspended, 3 postponed (ready once ready_at has come).
-- Routing failures are suspended with an empty host and port.
CREATE TABLE work (
    id bigserial PRIMARY KEY,
    message_id uuid NOT NULL,
    ready_at bigint NOT NULL,
    held_epoch bigint,
    attempts integer NOT NULL DEFAULT 0,
    state smallint NOT NULL CHECK (state BETWEEN 0 AND 3),
    maybe_delivered boolean NOT NULL DEFAULT false,
    -- The message went to this row only, so that the row's end is the message's end.
    alone boolean NOT NULL,
    host text COLLATE "C" NOT NULL,
    port text COLLATE "C" NOT NULL,
    held_lease text COLLATE "C",
    error text
);
CREATE INDEX work_ready ON work (host, id) WHERE state = 0;
CREATE INDEX work_postponed ON work (host, ready_at) WHERE state = 3;
CREATE INDEX work_suspended ON work (id) WHERE state = 2;
CREATE INDEX work_held ON work (held_lease) WHERE state = 1;

CREATE TABLE location_report (
    location text COLLATE "C" PRIMARY KEY,
    node text NOT NULL,
    epoch bigint NOT NULL,
    active_since bigint,
    last_success_at bigint,
    last_error_at bigint,
    last_error text,
    received bigint NOT NULL,
    guarantee text NOT NULL
);

-- Queues turn over their whole content in minutes: clean up after a fixed number of dead rows
-- instead of a fifth of the table, and without pauses.
ALTER TABLE work SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE message SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE lease SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE lease_expiry SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
