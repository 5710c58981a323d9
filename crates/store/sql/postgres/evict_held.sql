-- Leases, besides that of being itself, that a node still holds.
SELECT name FROM lease WHERE holder = $1 AND name <> 'node/' || $1 ORDER BY name
