SELECT node.name, lease.epoch, lease.holder, node.machine, node.version
FROM node JOIN lease ON lease.name = 'node/' || node.name
ORDER BY node.name;
