-- What operators want of groups and nodes, what owners say of resources, and operator events.

-- The number of the step that a Baton must know at least to work on a store that has taken this
-- one; null: this one itself. So a release may add to the schema while the one before still runs.
ALTER TABLE schema_version ADD COLUMN usable_from integer;

-- The resource whose failure an entry follows.
ALTER TABLE lease_history ADD COLUMN resource text;

CREATE TABLE group_order (
    "group" text COLLATE "C" PRIMARY KEY,
    online boolean NOT NULL,
    unmonitored_until bigint,
    by text NOT NULL,
    at bigint NOT NULL
);

CREATE TABLE node_order (
    node text COLLATE "C" PRIMARY KEY,
    duty text NOT NULL,
    failback text NOT NULL,
    away_since bigint,
    quarantine_cleared_at bigint,
    by text NOT NULL,
    at bigint NOT NULL
);

-- One row for each resource, by its present or last owner. Room for updates in the page.
CREATE TABLE resource_report (
    resource text COLLATE "C" PRIMARY KEY,
    node text NOT NULL,
    epoch bigint NOT NULL,
    state text NOT NULL,
    detail text,
    since bigint NOT NULL,
    updated_at bigint NOT NULL
) WITH (fillfactor = 50);

-- No index but the key: whoever follows reads behind a sequence, and the sweep reads the oldest.
CREATE TABLE operator_event (
    sequence bigserial PRIMARY KEY,
    at bigint NOT NULL,
    id integer NOT NULL,
    node text,
    subject text NOT NULL,
    sentence text NOT NULL
);

-- Held by whoever records operator events, until the commit: sequences become visible in their
-- order, so that nobody who reads behind the last one he has seen misses one that commits late.
CREATE FUNCTION baton_events_key() RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtextextended('events', 1) $$;

-- The nodes that have their liveness lock, by one look at the locks of the server instead of one
-- for each node (baton_connected).
CREATE FUNCTION baton_connected_nodes() RETURNS integer[] LANGUAGE sql STABLE
AS $$
    SELECT ARRAY(
        SELECT objid::bigint::integer FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 1650553967::oid AND objsubid = 2 AND granted
            AND mode = 'ExclusiveLock'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
$$;

ALTER TABLE resource_report SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Only the exclusive lock is the node's own; the shared one is a peer's that waited for it.
CREATE OR REPLACE FUNCTION baton_connected(node_id integer) RETURNS boolean LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 1650553967::oid AND objsubid = 2 AND granted
            AND mode = 'ExclusiveLock' AND objid = node_id::oid
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
$$;

-- Waits until a node's liveness lock is free, at most so many milliseconds; false when it is not.
CREATE FUNCTION baton_watch(node_name text, wait bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    node_id integer := (SELECT id FROM node WHERE name = node_name);
BEGIN
    IF node_id IS NULL THEN
        RETURN true;
    END IF;
    PERFORM set_config('lock_timeout', wait::text, true);
    PERFORM pg_advisory_xact_lock_shared(1650553967, node_id);
    RETURN true;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN false;
END
$$;
