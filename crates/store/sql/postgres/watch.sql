-- One statement and its own transaction: the lock goes with its end.
SELECT baton_watch($1, $2)
