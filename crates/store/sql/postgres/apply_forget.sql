DELETE FROM subscription
