SELECT host, port, state, count, published_at
FROM (
    SELECT host, port, CASE state WHEN 3 THEN 0 ELSE state END AS state, count(*) AS count,
        min(id) AS oldest
    FROM work
    GROUP BY 1, 2, 3
) AS line
JOIN (SELECT id AS work_id, message_row FROM work) ON work_id = oldest
JOIN message ON message."row" = message_row
ORDER BY host, port, state;
