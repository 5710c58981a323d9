-- 7021233614863229295 is 'apply/no' read as a number: any constant that is nobody's fence key.
SELECT pg_advisory_xact_lock(7021233614863229295)
