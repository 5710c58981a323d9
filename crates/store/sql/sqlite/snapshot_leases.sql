SELECT name, epoch, holder, changed_at, cause, reason, offered_to
FROM lease
WHERE name NOT LIKE 'node/%'
ORDER BY name;
