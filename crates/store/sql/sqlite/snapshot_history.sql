SELECT lease, epoch, holder, before, evidence, cause, reason, at, resource
FROM lease_history
WHERE at >= ?1 AND lease NOT LIKE 'instance/%'
ORDER BY id;
