-- Kept: what is younger than $1, and the newest $2 entries in any case.
DELETE FROM lease_history
WHERE at < (SELECT baton_now()) - $1
    AND id <= (SELECT max(id) FROM lease_history) - $2
