-- Whether a take would find something, without writing: even an empty take costs a commit, since
-- the fence marks the lease's row.
SELECT
    EXISTS (SELECT FROM lease WHERE name = $1 AND epoch = $2 AND holder = $3) AS current,
    EXISTS (SELECT FROM work WHERE host = $4 AND state = 0)
        OR EXISTS (
            SELECT FROM work
            WHERE host = $4 AND state = 3 AND ready_at <= (SELECT baton_now())) AS due
