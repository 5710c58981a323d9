INSERT INTO operator_event (at, id, node, subject, sentence)
SELECT (SELECT baton_now()), id, node, subject, sentence
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[])
    WITH ORDINALITY AS event (id, node, subject, sentence, n)
ORDER BY n
