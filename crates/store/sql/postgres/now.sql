SELECT baton_now()
