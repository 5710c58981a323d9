UPDATE node SET connected_at = baton_now() WHERE id = $1
