DELETE FROM node_order WHERE node = ?1;
