SELECT node.name, lease.holder
FROM node JOIN lease ON lease.name = 'node/' || node.name;
