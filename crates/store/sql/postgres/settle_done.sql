WITH ended AS (
    DELETE FROM work
    -- IS TRUE hides the index of all rows held: those asked for are found by their ids.
    WHERE id = ANY($3) AND (state = 1) IS TRUE AND held_lease = $1 AND held_epoch = $2
    RETURNING message_id, alone
), alone AS (
    DELETE FROM message USING ended WHERE message.id = ended.message_id AND ended.alone
    RETURNING message.body_id
), shared AS (
    SELECT message_id, count(*)::integer AS work_rows
    FROM ended WHERE NOT alone GROUP BY message_id
), counted AS (
    -- Locked in one order, so that two workers that end rows of the same messages can't deadlock;
    -- the row that is locked is the newest one, with the count that the other worker left.
    SELECT message.id, message.work_rows FROM message
    WHERE message.id IN (SELECT message_id FROM shared) ORDER BY message.id FOR UPDATE
), fewer AS (
    UPDATE message SET work_rows = counted.work_rows - shared.work_rows
    FROM counted JOIN shared ON shared.message_id = counted.id
    WHERE message.id = counted.id AND counted.work_rows > shared.work_rows
), last AS (
    DELETE FROM message USING counted JOIN shared ON shared.message_id = counted.id
    WHERE message.id = counted.id AND counted.work_rows <= shared.work_rows
    RETURNING message.body_id
), dropped AS (
    UPDATE body SET dropped_at = baton_now()
    WHERE id IN (
        SELECT body_id FROM alone WHERE body_id IS NOT NULL
        UNION ALL
        SELECT body_id FROM last WHERE body_id IS NOT NULL)
)
SELECT count(*) FROM ended
