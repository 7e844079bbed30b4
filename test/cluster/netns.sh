#!/usr/bin/env bash
# A coordinator and a worker in two network namespaces, joined by a veth link of 1 Gbit/s (tc tbf, both directions):
#
#     [ coordinator ] 10.231.77.1 ---- 1 Gbit/s ---- 10.231.77.2 [ worker ]
#
# First a short training, whose digest must be that of `lantrain train`; then `bench cluster --listen` for the times and
# bytes of a step, and the sum of its upload and download; what the link carried, by its own counters. Where the machine
# does not allow any of it, that is said and the exit code is 0. Run it from a built checkout, as root:
#
#     test/cluster/netns.sh [--wire WIRE] [shape options]
#
# Without --wire it takes the default of `train`.
set -euo pipefail
cd "$(dirname "$0")/../.."

WIRE=() SHAPE=()
while [ $# -gt 0 ]; do
  case $1 in
    --wire)
      [ $# -gt 1 ] || { echo 'netns: --wire needs a wire: exact or low' >&2; exit 2; }
      WIRE=(--wire "$2")
      shift
      ;;
    --wire=*) WIRE=(--wire "${1#--wire=}") ;;
    *) SHAPE+=("$1") ;;
  esac
  shift
done
[ ${#SHAPE[@]} -gt 0 ] || SHAPE=(--layers 4 --heads 4 --width 256 --context 128 --batch 16)
SHAPE+=("${WIRE[@]}")
TRAINING=(--steps "${STEPS:-6}" --eval-every 0 --sample-tokens 0)
RATE=${RATE:-1gbit}
MAIN=dist/src/cli/main.js
A=lantrain-a-$$ B=lantrain-b-$$ VA=lta$$ VB=ltb$$
WORK=$(mktemp -d)
PIDS=()

unable() {
  echo "netns: this machine does not allow it: $1"
  exit 0
}

clean_up() {
  for pid in "${PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  ip link del "$VA" 2>/dev/null || true
  ip netns del "$A" 2>/dev/null || true
  ip netns del "$B" 2>/dev/null || true
  rm -rf "$WORK"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

[ "$(uname)" = Linux ] || unable 'network namespaces are of Linux'
[ "$(id -u)" = 0 ] || unable 'it needs root'
[ -f "$MAIN" ] || { echo 'netns: build first: npm run build' >&2; exit 1; }
export PATH=$PATH:/usr/sbin:/sbin
if ! command -v ip > /dev/null || ! command -v tc > /dev/null; then
  command -v apt-get > /dev/null || unable 'the programs ip and tc are missing'
  { apt-get update && apt-get install -y --no-install-recommends iproute2; } > "$WORK/apt" 2>&1 ||
    unable "ip and tc are missing, and iproute2 cannot be installed ($(tail -1 "$WORK/apt"))"
fi

try() { "$@" 2> "$WORK/error" || unable "$* ($(head -1 "$WORK/error"))"; }
try ip netns add "$A"
try ip netns add "$B"
try ip link add "$VA" type veth peer name "$VB"
try ip link set "$VA" netns "$A"
try ip link set "$VB" netns "$B"
try ip -n "$A" addr add 10.231.77.1/24 dev "$VA"
try ip -n "$B" addr add 10.231.77.2/24 dev "$VB"
for side in "$A $VA" "$B $VB"; do
  read -r ns dev <<< "$side"
  try ip -n "$ns" link set lo up
  try ip -n "$ns" link set "$dev" up
  try ip netns exec "$ns" tc qdisc add dev "$dev" root tbf rate "$RATE" burst 256kb latency 20ms
done
in_a() { ip netns exec "$A" "$@"; }
in_b() { ip netns exec "$B" "$@"; }
# Bytes that have left the coordinator's end, and the worker's.
carried() {
  in_a cat "/sys/class/net/$VA/statistics/tx_bytes"
  in_b cat "/sys/class/net/$VB/statistics/tx_bytes"
}

# What the link carries between two processes that do nothing else.
timeout 60 ip netns exec "$A" node -e '
  const server = require("net").createServer((socket) => {
    let bytes = 0, began = 0;
    socket.on("data", (chunk) => { began ||= performance.now(); bytes += chunk.length; });
    socket.on("end", () => {
      console.log(`link     ${(bytes / (performance.now() - began) / 1e3).toFixed(1)} MB/s between two sockets`);
      server.close();
    });
  }).listen(7070, "10.231.77.1");' &
PIDS+=($!)
sleep 1
timeout 60 ip netns exec "$B" node -e '
  const socket = require("net").connect(7070, "10.231.77.1");
  const chunk = Buffer.alloc(1 << 20);
  let left = 200;
  const go = () => { while (left-- > 0) if (!socket.write(chunk)) return; socket.end(); };
  socket.on("connect", go).on("drain", go);'
wait "${PIDS[0]}"
PIDS=()

# The line `join ...` of a log, once it is there; the URL is the last word. The token goes to LANTRAIN_TOKEN.
join_line() {
  for _ in $(seq 600); do
    if grep -q '^join ' "$1"; then
      sed -n 's/^join .*LANTRAIN_TOKEN=\([^ ]*\) .* \([^ ]*\)$/\1 \2/p' "$1" | head -1
      return
    fi
    kill -0 "${PIDS[0]}" 2> /dev/null || break
    sleep 0.2
  done
  cat "$1" >&2
  return 1
}

# A short training, coordinator here and worker there.
timeout 900 ip netns exec "$A" node "$MAIN" coordinator "${SHAPE[@]}" "${TRAINING[@]}" --out "$WORK/run" \
  --listen 10.231.77.1:7070 > "$WORK/coordinator" 2>&1 &
PIDS=($!)
read -r LANTRAIN_TOKEN URL <<< "$(join_line "$WORK/coordinator")"
export LANTRAIN_TOKEN
timeout 900 ip netns exec "$B" node "$MAIN" worker "$URL" --quiet --patience 20 2> "$WORK/worker" &
PIDS+=($!)
wait "${PIDS[0]}" || { cat "$WORK/coordinator" "$WORK/worker" >&2; exit 1; }
wait "${PIDS[1]}" || { cat "$WORK/worker" >&2; exit 1; }
timeout 900 node "$MAIN" train "${SHAPE[@]}" "${TRAINING[@]}" --out "$WORK/alone" > "$WORK/train" 2>&1 ||
  { cat "$WORK/train" >&2; exit 1; }
digest() { sed -n 's/^digest  *\([0-9a-f]*\).*/\1/p' "$1"; }
OVER=$(digest "$WORK/coordinator") ALONE=$(digest "$WORK/train")
[ -n "$OVER" ] && [ "$OVER" = "$ALONE" ] || { echo "netns: digest $OVER over the link, $ALONE alone" >&2; exit 1; }
echo "digest   $OVER, over the link and by train alone"

# Times and bytes of a step.
mapfile -t before < <(carried)
timeout 900 ip netns exec "$A" node "$MAIN" bench cluster "${SHAPE[@]}" --workers 1 --no-intake --skip 3 \
  --steps "${STEPS:-6}" --listen 10.231.77.1:7071 > "$WORK/bench" 2> "$WORK/bench.errors" &
PIDS=($!)
read -r LANTRAIN_TOKEN URL <<< "$(join_line "$WORK/bench")"
timeout 900 ip netns exec "$B" node "$MAIN" worker "$URL" --quiet --patience 20 2> "$WORK/worker" &
PIDS+=($!)
wait "${PIDS[0]}" || { cat "$WORK/bench" "$WORK/bench.errors" >&2; exit 1; }
wait "${PIDS[1]}" || true
mapfile -t after < <(carried)
grep -v '^join \|^waiting ' "$WORK/bench"
# The last seven figures of a row: upload, wait, download, sum, update (ms), up, down (MB).
sed -n 's/ *(.*shares taken away)$//; / alone /p' "$WORK/bench" | awk -v wire="${WIRE[1]:-by default}" '
  { printf "transfer %.1f ms up + %.1f ms down = %.1f ms a step; %.2f MB up + %.2f MB down (wire: %s)\n",
      $(NF - 6), $(NF - 4), $(NF - 6) + $(NF - 4), $(NF - 1), $NF, wire }'
echo "carried  $(((after[1] - before[1]) / 1000)) kB up, $(((after[0] - before[0]) / 1000)) kB down by the link's counters, joining and warm-up included"
