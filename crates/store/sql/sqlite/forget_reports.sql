-- Reports of what the definitions in force do not have.
DELETE FROM resource_report WHERE resource NOT IN (SELECT value FROM json_each(?1));
