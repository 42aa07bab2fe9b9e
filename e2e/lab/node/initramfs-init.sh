#!/bin/busybox sh
# First program of a lab node. Mounts the shared root read-only, lays memory over it, mounts the node's own disk and the lab
# folder, and hands over to /lab/node.sh.
/bin/busybox --install -s /bin
export PATH=/bin

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in virtio_pci virtio_blk 9p 9pnet_virtio overlay ext4; do modprobe $module; done

share="trans=virtio,version=9p2000.L,msize=512000,cache=loose"
mount -t 9p -o "ro,$share" root /ro
mount -t tmpfs -o size=512m none /rw
mkdir -p /rw/upper /rw/work
mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work none /root

mkdir -p /root/lab
mount -t 9p -o "ro,$share" lab /root/lab
mount -t 9p -o "ro,$share" modules /root/usr/lib/modules || { mkdir -p /root/usr/lib/modules; mount -t 9p -o "ro,$share" modules /root/usr/lib/modules; }
mount -t ext4 -o noatime /dev/vda /root/var/lib
mount -t tmpfs none /root/tmp
mount -t tmpfs none /root/run
for dir in proc sys dev; do mount --move /$dir /root/$dir; done
exec switch_root /root /bin/bash /lab/node.sh
