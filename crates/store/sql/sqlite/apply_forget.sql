DELETE FROM subscription;
