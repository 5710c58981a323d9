SELECT resource, node, epoch, state, detail, since FROM resource_report
WHERE updated_at > $1
ORDER BY resource
