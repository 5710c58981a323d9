SELECT lease, epoch, holder, before, evidence, cause, reason, at
FROM lease_history
WHERE at >= ?1 AND lease LIKE 'group/%'
ORDER BY id;
