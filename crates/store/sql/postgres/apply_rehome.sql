-- Work that waits goes to the host that now runs its port.
UPDATE work SET host = subscription.host
FROM subscription
WHERE work.port = subscription.port AND work.host <> subscription.host AND work.state <> 1
