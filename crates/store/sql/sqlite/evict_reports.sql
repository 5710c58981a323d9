DELETE FROM resource_report WHERE node = ?1;
