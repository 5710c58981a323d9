SELECT lease, epoch, holder, before, evidence, cause, reason, at, resource
FROM lease_history
ORDER BY id DESC
LIMIT $1
