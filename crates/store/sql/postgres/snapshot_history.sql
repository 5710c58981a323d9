SELECT lease, epoch, holder, before, evidence, cause, reason, at
FROM lease_history
WHERE lease LIKE 'group/%' AND at > (SELECT baton_now()) - $1
ORDER BY id
