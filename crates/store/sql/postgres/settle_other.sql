-- Work that is not done: given back (state 0), suspended (2), or postponed (3).
UPDATE work SET
    state = outcome.state,
    ready_at = (SELECT baton_now()) + outcome.after,
    attempts = attempts + outcome.tries,
    error = coalesce(outcome.error, work.error),
    maybe_delivered = maybe_delivered OR outcome.maybe,
    held_lease = NULL, held_epoch = NULL
FROM unnest($3::bigint[], $4::smallint[], $5::bigint[], $6::integer[], $7::text[],
        $8::boolean[])
    AS outcome (id, state, after, tries, error, maybe)
WHERE work.id = outcome.id AND (work.state = 1) IS TRUE AND held_lease = $1 AND held_epoch = $2
