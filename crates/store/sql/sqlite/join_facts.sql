SELECT machine, pid FROM node WHERE name = ?1;
