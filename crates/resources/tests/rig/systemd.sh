#!/bin/sh
# A systemd of the test's own, with a bus. It runs inside
# `unshare --mount --pid --ipc --fork --kill-child`; $1 is the name of the bus.
#
# It must not be able to touch the machine: it runs as a user's manager, which brings no units of
# the machine up, on file systems that cannot be written (systemd-tmpfiles would empty /tmp).
set -eu
mount --make-rprivate /
awk '$3 ~ /^(ext[234]|xfs|btrfs|overlay|zfs)$/ { print $2 }' /proc/mounts | while read -r place; do
    mount -o remount,bind,ro "$place" 2>/dev/null || true
done
for folder in /tmp /run /var /root /home /mnt; do mount -t tmpfs tmpfs $folder; done
mount -t proc proc /proc
for place in / /usr /etc; do
    if touch $place/.baton-may-not-write 2>/dev/null; then
        rm -f $place/.baton-may-not-write
        echo "$place can be written, so no systemd is started"
        exit 1
    fi
done
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$1/manager"
echo $$ >"/sys/fs/cgroup/$1/manager/cgroup.procs"

# /run/systemd/system says that the machine was booted with systemd, or it would not start.
mkdir -p /run/user /run/systemd/system /tmp/units
unit() {
    { printf '[Unit]\nDefaultDependencies=no\n'; cat; } >"/tmp/units/$1"
}
unit default.target <<X
Wants=dbus.service
X
unit dbus.socket <<X
[Socket]
ListenStream=@$1
X
unit dbus.service <<X
Requires=dbus.socket
After=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile \
    --systemd-activation
X
unit good.service <<X
[Service]
ExecStart=/bin/sleep infinity
X
unit bad.service <<X
[Service]
Type=oneshot
ExecStart=/bin/false
X
unit stubborn.service <<X
[Service]
ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'
TimeoutStopSec=infinity
X
export XDG_RUNTIME_DIR=/run/user HOME=/root SYSTEMD_UNIT_PATH=/tmp/units
export DBUS_SESSION_BUS_ADDRESS=unix:abstract=$1
# Not as process 1: that is for the manager of a machine.
/lib/systemd/systemd --user &
wait
