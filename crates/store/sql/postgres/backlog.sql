-- Postponed work (3) counts as ready. Ids grow with time, so the oldest row has the smallest.
WITH counted AS (
    SELECT host, port, (state % 3)::smallint AS state, count(*) AS count, min(id) AS oldest
    FROM work GROUP BY 1, 2, 3
)
SELECT counted.host, counted.port, counted.state, counted.count,
    message.published_at AS oldest_at
FROM counted
    JOIN work ON work.id = counted.oldest
    JOIN message ON message.id = work.message_id
ORDER BY 1, 2, 3
