INSERT INTO lease_history (lease, epoch, holder, before, evidence, cause, reason, at, resource)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9);
