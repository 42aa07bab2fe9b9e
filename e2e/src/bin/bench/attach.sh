# ADD and DEL of the cluster's plugin, of railhead, and of a program that does the same kernel work and nothing else, in turn; with one
# rail and with all. On a node, as root. Arguments: how often, that program, and the UIDs of two wired pods, one with one rail and
# one with all, whose plans are used and whose rails are taken away.
set -eu
runs=$1 standin=$2 one=$3 all=$4
plan_of() { echo "/run/railhead/plans/$1.json"; }
work=$(mktemp -d)
trap 'ip netns del bench 2>/dev/null || true; rm -rf "$work"' EXIT

# command, plugin, container, pod UID; configuration on standard input, result in $work/out
plugin() {
  CNI_COMMAND=$1 CNI_CONTAINERID=$3 CNI_NETNS=/var/run/netns/bench CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
    CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=railhead-bench;K8S_POD_NAME=bench;K8S_POD_UID=$4" \
    "/opt/cni/bin/$2" >"$work/out" || { cat "$work/out" >&2; return 1; }
}
# What the agent reports of a wired pod, and what the runtime reads anew, falls into no measurement: a node has one processor here.
settle() { sleep 2; }
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

for pod in "$one" "$all"; do
  plugin DEL railhead "$(jq -r .containerId "/run/railhead/attachments/$pod/attachment.json")" "$pod" <"$work/ours"
done

# What the program is to do for the rails of a pod's plan: the same.
floor_rails() {
  jq -c '.rails[]' "$(plan_of "$1")" | while read -r rail; do
    device=$(ls "/sys/bus/pci/devices/$(jq -r .vf.pciAddress <<<"$rail")/net")
    jq -c --arg device "$device" --arg mac "$(cat "/sys/class/net/$device/address")" --arg mtu "$(cat "/sys/class/net/$device/mtu")" \
      '{hostName: $device, podName: .name, hostMac: $mac, podMac: .mac, hostMtu: ($mtu | tonumber), podMtu: .mtu,
        address: (.addresses[0] | split("/")[0]), prefix: (.addresses[0] | split("/")[1] | tonumber), gateway: .gateway, table: .table,
        soft: (if .rdma.kind == "soft" then .rdma.device else null end)}' <<<"$rail"
  done | jq -sc .
}

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

  for rails in 1 all; do
    if [ $rails = 1 ]; then pod=$one; else pod=$all; fi
    spec=/var/run/cdi/railhead.dev-$(jq -r .claimUid "$(plan_of "$pod")").json
    settle
    a=$EPOCHREALTIME
    plugin ADD railhead "bench-$run-$rails" "$pod" <"$work/chained"
    took "add-$rails" "$a" "$EPOCHREALTIME" >&3
    settle
    a=$EPOCHREALTIME
    plugin DEL railhead "bench-$run-$rails" "$pod" <"$work/chained"
    took "del-$rails" "$a" "$EPOCHREALTIME" >&3
    # As Prepare writes it, so that each ADD completes it. Here, since the runtime reads it again.
    jq -c 'del(.devices[].containerEdits.deviceNodes)' "$spec" >"$work/spec"
    cp "$work/spec" "$spec"

    floor=$(floor_rails "$pod")
    # That a sandbox went is reported when it stays away, three seconds later.
    settle
    settle
    a=$EPOCHREALTIME
    waited=$("$standin" floor add /var/run/netns/bench "$floor")
    took "floor-add-$rails" "$a" "$EPOCHREALTIME" >&3
    settle
    a=$EPOCHREALTIME
    "$standin" floor del /var/run/netns/bench "$floor"
    took "floor-del-$rails" "$a" "$EPOCHREALTIME" >&3
    echo "wait-$rails $waited" >&3
  done

  a=$EPOCHREALTIME
  plugin DEL "$cluster" "bench-$run" none <"$work/cluster"
  b=$EPOCHREALTIME
  took cluster-del "$a" "$b" >&3
  ip netns del bench
done
