SELECT location, node, epoch, active_since, last_success_at, last_error_at, last_error, received,
    guarantee
FROM location_report
ORDER BY location;
