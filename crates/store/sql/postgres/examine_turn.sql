-- One examination at a time: whoever has this lock owns the scratch schema, and what it finds in
-- there was left behind by one that died.
SELECT pg_try_advisory_lock(hashtextextended('examine', 1))
