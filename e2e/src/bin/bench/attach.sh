# ADD and DEL of the cluster's plugin and of railhead in turn, and the same moves by `ip -batch`. On a node, as root.
# Arguments: how often, and the UID of a wired pod, whose plan is used and whose rails are taken away.
set -eu
runs=$1 pod=$2
plan=/run/railhead/plans/$pod.json
work=$(mktemp -d)
trap 'ip netns del bench 2>/dev/null || true; rm -rf "$work"' EXIT

# command, plugin, container, pod UID; configuration on standard input, result in $work/out
plugin() {
  CNI_COMMAND=$1 CNI_CONTAINERID=$3 CNI_NETNS=/var/run/netns/bench CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
    CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=railhead-bench;K8S_POD_NAME=bench;K8S_POD_UID=$4" \
    "/opt/cni/bin/$2" >"$work/out" || { cat "$work/out" >&2; return 1; }
}
# name, begin, end: as $EPOCHREALTIME
took() {
  local us=$((${3/[.,]/} - ${2/[.,]/}))
  printf '%s %d.%03d\n' "$1" $((us / 1000)) $((us % 1000))
}

# The cluster's own configuration; its plugin comes first in the chain.
jq -c '.plugins[0] + {cniVersion, name}' /etc/cni/net.d/*.conflist >"$work/cluster"
cluster=$(jq -r .type "$work/cluster")
ours='{"cniVersion":"1.0.0","name":"railhead","type":"railhead"}'
echo "$ours" >"$work/ours"

old=$(jq -r .containerId "/run/railhead/attachments/$pod/attachment.json")
plugin DEL railhead "$old" "$pod" <"$work/ours"

# One line per rail: PCI address, name in the pod, MTU, address.
jq -r '.rails[] | [.vf.pciAddress, .name, .mtu, .addresses[0]] | @tsv' "$plan" >"$work/rails"

# Run 0 finds caches cold, and is not counted.
for run in $(seq 0 "$runs"); do
  [ "$run" -gt 0 ] && exec 3>&1 || exec 3>/dev/null
  ip netns add bench
  a=$EPOCHREALTIME
  plugin ADD "$cluster" "bench-$run" none <"$work/cluster"
  b=$EPOCHREALTIME
  took cluster-add "$a" "$b" >&3
  jq -c --argjson ours "$ours" '. as $previous | $ours + {cniVersion, prevResult: $previous}' "$work/out" >"$work/chained"

  a=$EPOCHREALTIME
  plugin ADD railhead "bench-$run" none <"$work/chained"
  b=$EPOCHREALTIME
  /bin/true
  c=$EPOCHREALTIME
  took unlabelled "$a" "$b" >&3
  took true "$b" "$c" >&3

  a=$EPOCHREALTIME
  plugin ADD railhead "bench-$run" "$pod" <"$work/chained"
  b=$EPOCHREALTIME
  plugin DEL railhead "bench-$run" "$pod" <"$work/chained"
  c=$EPOCHREALTIME
  took add "$a" "$b" >&3
  took del "$b" "$c" >&3

  a=$EPOCHREALTIME
  plugin DEL "$cluster" "bench-$run" none <"$work/cluster"
  b=$EPOCHREALTIME
  took cluster-del "$a" "$b" >&3
  ip netns del bench

  ip netns add bench
  : >"$work/move" >"$work/set" >"$work/back"
  names=
  while read -r pci name mtu address; do
    device=$(ls "/sys/bus/pci/devices/$pci/net")
    was=$(cat "/sys/class/net/$device/mtu")
    names="$names $name"
    echo "link set $device netns bench name $name" >>"$work/move"
    printf 'link set %s mtu %s up\naddr add %s dev %s\n' "$name" "$mtu" "$address" "$name" >>"$work/set"
    printf 'link set %s down mtu %s\nlink set %s netns 1 name %s\n' "$name" "$was" "$name" "$device" >>"$work/back"
  done <"$work/rails"
  a=$EPOCHREALTIME
  ip -batch "$work/move"
  ip -n bench -batch "$work/set"
  b=$EPOCHREALTIME
  # Its sysfs shows the namespace's own interfaces.
  ip netns exec bench timeout 30 bash -c 'for name; do
      until read -r up <"/sys/class/net/$name/carrier" && [ "$up" = 1 ]; do sleep 0.01; done
    done' - $names
  c=$EPOCHREALTIME
  ip -n bench -batch "$work/back"
  d=$EPOCHREALTIME
  took floor-add "$a" "$b" >&3
  took floor-signal "$a" "$c" >&3
  took floor-del "$c" "$d" >&3
  ip netns del bench
done
