SELECT document FROM definitions WHERE version = ?1;
