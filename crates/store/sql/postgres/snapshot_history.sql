SELECT id, lease, epoch, holder, before, evidence, cause, reason, at, resource
FROM lease_history
WHERE lease NOT LIKE 'instance/%' AND at > greatest((SELECT baton_now()) - $1, $2)
ORDER BY id
