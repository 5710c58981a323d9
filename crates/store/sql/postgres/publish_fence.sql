SELECT baton_fence($1, $2, $3, $4)
