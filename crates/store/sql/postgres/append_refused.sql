SELECT bytes, complete, dropped_at IS NOT NULL AS dropped FROM body WHERE id = $1
