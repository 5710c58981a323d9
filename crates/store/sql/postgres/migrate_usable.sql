UPDATE schema_version SET usable_from = $2 WHERE version = $1
