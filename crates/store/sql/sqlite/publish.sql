INSERT INTO message (
    id, published_at, publisher, lease, epoch, context, body_bytes, inline_body, body_id, work_rows
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10);
