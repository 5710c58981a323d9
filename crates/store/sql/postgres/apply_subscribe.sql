INSERT INTO subscription (port, host, filter, definitions_version)
SELECT port, host, filter, $4
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (port, host, filter)
