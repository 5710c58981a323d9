#!/bin/sh
# An OCF agent around a process that writes all the time that it is active.
pidfile=/run/active.pid
running() { [ -s "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null; }
case $1 in
start)
    running && exit 0
    /mnt/bench active --sink /mnt/lines --node "$(uname -n)" </dev/null >/dev/null 2>&1 &
    echo $! >"$pidfile"
    ;;
stop)
    if running; then kill -9 "$(cat "$pidfile")"; fi
    rm -f "$pidfile"
    ;;
monitor) running || exit 7 ;;
validate-all) ;;
meta-data)
    cat <<'XML'
<?xml version="1.0"?>
<resource-agent name="active" version="1.0">
  <version>1.0</version>
  <longdesc lang="en">Writes all the time that it is active.</longdesc>
  <shortdesc lang="en">Writes while active</shortdesc>
  <parameters/>
  <actions>
    <action name="start" timeout="20s"/>
    <action name="stop" timeout="20s"/>
    <action name="monitor" timeout="20s" interval="10s"/>
    <action name="validate-all" timeout="5s"/>
    <action name="meta-data" timeout="5s"/>
  </actions>
</resource-agent>
XML
    ;;
*) exit 3 ;;
esac
