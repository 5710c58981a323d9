SELECT greatest(ready_at - baton_now(), 0) AS wait
FROM work
WHERE host = $1 AND state = 3
ORDER BY ready_at LIMIT 1
