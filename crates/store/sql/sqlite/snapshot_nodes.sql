SELECT node.name, lease.epoch, lease.holder
FROM node JOIN lease ON lease.name = 'node/' || node.name
ORDER BY node.name;
