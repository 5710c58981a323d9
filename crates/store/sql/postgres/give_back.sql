UPDATE work SET state = 0, maybe_delivered = true, held_lease = NULL, held_epoch = NULL
WHERE state = 1 AND held_lease = $1 AND held_epoch = $2 AND host = $3 AND id <> ALL($4)
