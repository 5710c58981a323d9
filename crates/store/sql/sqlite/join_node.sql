INSERT INTO node (name, machine, pid, version, joined_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (name) DO UPDATE SET
    machine = excluded.machine, pid = excluded.pid, version = excluded.version,
    joined_at = excluded.joined_at;
