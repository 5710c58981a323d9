INSERT INTO body (id, bytes, complete, updated_at) VALUES ($1, $2, true, baton_now())
