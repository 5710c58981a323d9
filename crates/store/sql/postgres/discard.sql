-- sweep_bodies.sql deletes its chunks.
UPDATE body SET dropped_at = baton_now()
WHERE id = $1 AND NOT complete AND dropped_at IS NULL
