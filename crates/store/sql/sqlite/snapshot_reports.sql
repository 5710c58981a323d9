SELECT resource, node, epoch, state, detail, since FROM resource_report ORDER BY resource;
