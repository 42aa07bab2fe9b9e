#!/bin/busybox sh
# First program of a lab node. Mounts the shared root read-only, lays the node's own disk over it, mounts the kernel's modules and
# the lab folder, and hands over to /lab/node.sh. So all that is written stays, as on any machine; /run and /tmp do not.
/bin/busybox --install -s /bin
export PATH=/bin

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
# Some of these are built into the kernel; what is really missing shows in the mounts below.
for module in virtio_pci virtio_blk 9pnet_virtio 9p overlay ext4; do modprobe $module 2>/dev/null; done

share="ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose"
mount -t 9p -o $share root /ro
mount -t ext4 -o noatime /dev/vda /disk
mkdir -p /disk/upper /disk/work
mount -t overlay -o lowerdir=/ro,upperdir=/disk/upper,workdir=/disk/work none /root

mkdir -p /root/lab /root/usr/lib/modules
mount -t 9p -o $share lab /root/lab
mount -t 9p -o $share modules /root/usr/lib/modules
# Not below the overlay: containerd's snapshots are overlays themselves.
mount --bind /disk/var-lib /root/var/lib
mount -t tmpfs none /root/tmp
mount -t tmpfs none /root/run
for dir in proc sys dev; do mount --move /$dir /root/$dir; done
exec switch_root /root /bin/bash /lab/node.sh
