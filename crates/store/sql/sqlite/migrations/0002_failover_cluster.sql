-- What operators want of groups and nodes, what owners say of resources, and operator events.

-- The number of the step that a Baton must know at least to work on a store that has taken this
-- one; null: this one itself. So a release may add to the schema while the one before still runs.
ALTER TABLE schema_version ADD COLUMN usable_from INTEGER;

-- The resource whose failure an entry follows.
ALTER TABLE lease_history ADD COLUMN resource TEXT;

CREATE TABLE group_order (
    "group"           TEXT PRIMARY KEY,
    online            INTEGER NOT NULL,
    unmonitored_until INTEGER,
    "by"              TEXT NOT NULL,
    at                INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node_order (
    node                  TEXT PRIMARY KEY,
    duty                  TEXT NOT NULL,
    failback              TEXT NOT NULL,
    away_since            INTEGER,
    quarantine_cleared_at INTEGER,
    "by"                  TEXT NOT NULL,
    at                    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each resource, by its present or last owner.
CREATE TABLE resource_report (
    resource TEXT PRIMARY KEY,
    node     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    state    TEXT NOT NULL,
    detail   TEXT,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- No index but the key: whoever follows reads behind a sequence, and the sweep reads the oldest.
CREATE TABLE operator_event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    id       INTEGER NOT NULL,
    node     TEXT,
    subject  TEXT NOT NULL,
    sentence TEXT NOT NULL
) STRICT;
