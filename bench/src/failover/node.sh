# One machine of the peer's cluster, as process 1 of its own: NAME FOLDER PACKAGES SHARED
#
# It has the real machine's file system underneath, and over it one of its own in memory with the
# peer's packages unpacked: nothing is installed, and everything is gone when this process ends.
set -eu
name=$1 folder=$2 packages=$3 shared=$4 root=$2/root
mount --make-rprivate /
mount -t tmpfs node "$folder"
mkdir "$folder/upper" "$folder/work" "$root"
mount -t overlay node -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
tar -C "$packages" -c . | tar -C "$root" -x --keep-directory-symlink
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs run "$root/run"
mount -t tmpfs shm "$root/dev/shm"
mount --bind "$shared" "$root/mnt"
hostname "$name"
exec chroot "$root" /bin/sh -eu -c '
    mkdir -p /run/lock /run/crm /usr/lib/ocf/resource.d/bench /var/log/corosync \
        /var/log/pacemaker /var/lib/corosync /var/lib/pacemaker/blackbox \
        /var/lib/pacemaker/cib /var/lib/pacemaker/cores /var/lib/pacemaker/pengine
    cp /mnt/corosync.conf /etc/corosync/corosync.conf
    cp /mnt/active /usr/lib/ocf/resource.d/bench/active
    grep -q ^haclient: /etc/group || echo haclient:x:107: >>/etc/group
    grep -q ^hacluster: /etc/passwd ||
        echo hacluster:x:104:107::/var/lib/pacemaker:/usr/sbin/nologin >>/etc/passwd
    chown -R hacluster:haclient /var/lib/pacemaker /var/log/pacemaker /run/crm
    corosync -f >/var/log/corosync.out 2>&1 &
    until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.05; done
    pacemakerd >/var/log/pacemakerd.out 2>&1 &
    # Process 1 also waits for the orphans of others.
    while :; do wait; sleep 1; done
'
