#!/bin/bash
# PID 1 of a lab node: kernel modules, management network, a way in, containerd, kubelet, kube-proxy.
# Prints `LAB <step> <seconds since power-on>` on the console for `lab up`. Everything it reads is in /lab, read-only.
. /lab/node.env # NODE, ADDRESS, PREFIX, ROUTES
export PATH=/lab/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

mark() { echo "LAB $1 $(cut -d' ' -f1 /proc/uptime)"; }
# Keeps a program running, so that a test may kill it; its output goes to /var/log/<name>.log.
keep() {
  local name=$1
  shift
  (while :; do
    "$@" >>"/var/log/$name.log" 2>&1 </dev/null
    echo "== $name ended with code $?, starting again" >>"/var/log/$name.log"
    sleep 1
  done) &
}

# An emulated processor pays for every wake-up and every switch between programs with code that it has to look up again. So timers may be
# late by 5 ms, which brings many of them together (all programs inherit that), and garbage is collected less often (containers do not).
echo 5000000 >/proc/self/timerslack_ns
export GOGC=400

mark kernel
hostname "$NODE"
# What an administrator installs once. Later boots find it as others have left it.
if [ ! -e /etc/lab-installed ]; then
  tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
  mkdir -p /etc/cni/net.d /opt/cni/bin /var/lib/kubelet
  cp /usr/lib/cni/* /opt/cni/bin/
  cp /lab/pod.conflist /etc/cni/net.d/10-pod.conflist
  touch /etc/lab-installed
fi
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
mount --make-rshared /
# igbvf: the ports' virtual functions. rdma_rxe and ib_uverbs: soft-RoCE. The others: containers and pod networks.
modprobe -a virtio_net igb igbvf rdma_rxe ib_uverbs rdma_ucm 8021q veth overlay br_netfilter nf_tables nft_chain_nat nf_conntrack

# Management network: the one virtio port. The igb ports are left alone, they belong to Railhead.
for device in /sys/class/net/*; do
  [ "$(basename "$(readlink "$device/device/driver")")" = virtio_net ] && port=$(basename "$device")
done
ip link set lo up
ip link set "$port" up
ip addr add "$ADDRESS/24" dev "$port"
ip route add default via 10.200.0.1
for route in $ROUTES; do ip route add "${route%,*}" via "${route#*,}"; done
sysctl -qw net.ipv4.ip_forward=1
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NODE" >/etc/hosts
: >/etc/resolv.conf

# The way in: key from `lab up`, management network only.
mkdir -p -m 700 /root/.ssh /etc/dropbear
cp /lab/authorized_keys /root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys
dropbear -R -s -p "$ADDRESS:22"
mark network

keep containerd containerd --config /lab/containerd.toml
# containerd listens when its plugins are up; asking it with ctr would cost more than waiting does.
until [ -S /run/containerd/containerd.sock ]; do sleep 0.2; done
mark containerd

keep kubelet kubelet --config /lab/kubelet.yaml --kubeconfig /lab/kubelet.kubeconfig \
  --hostname-override "$NODE" --node-ip "$ADDRESS"
# The node is Ready without Services; kubelet goes first on the emulated processor.
keep kube-proxy nice -n 10 kube-proxy --kubeconfig /lab/kube-proxy.kubeconfig --hostname-override "$NODE" \
  --proxy-mode nftables --cluster-cidr 10.244.0.0/16 --conntrack-max-per-core 0
mark kubelet

# What the kernel says from now on is on the console, with the stacks of tasks that hang and of those that SysRq asks for: that
# is all there is to read of a node that no longer answers.
sysctl -qw kernel.printk="7 4 1 7" kernel.sysrq=1 kernel.hung_task_timeout_secs=60

# PID 1 must stay, and collects orphans while it waits.
while :; do
  sleep 3600 &
  wait $!
done
