#!/usr/bin/env bash
# What waits for a machine with a GPU: digests that every adapter must give, tests of bits, and figures for
# docs/benchmarks.md. It takes some nine minutes on a large GPU, and installs nothing. In a built checkout:
#
#     npm run build && npx tsc -p test/cluster/tsconfig.json && bash test/gpu/card.sh
#
# The lecture's run needs its text (docs/verdict.md) as verdict.txt in the checkout.
set -uo pipefail
cd "$(dirname "$0")/../.."
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
part() { printf '\n== %s (after %s s)\n' "$1" "$SECONDS"; }
lantrain() { timeout "$1" node dist/src/cli/main.js "${@:2}"; }
end_of() { grep -E '^(loss|done|digest)' || echo 'it did not end'; }
vitest() { timeout "$1" npx vitest run --project gpu "${@:2}" 2>&1 | grep -E '✓|×|passed|failed|Error' | grep -v ' ms' | tail -40; }
export LANTRAIN_TUNE=off

part 'the adapter; portable must be yes'
lantrain 90 doctor

TINY=(train --preset tiny --steps 40 --eval-every 0 --sample-tokens 0)
part 'tiny for 40 steps: 9f11c6938f8a in the exact wire, 304fd55c73ab in the low wire, on every adapter'
for wire in exact low; do lantrain 60 "${TINY[@]}" --wire "$wire" --out "$runs/tiny-$wire" | end_of; done
part 'the exact one by the kernels that tuning finds'
LANTRAIN_TUNE=on lantrain 90 "${TINY[@]}" --wire exact --tune --out "$runs/tuned" | end_of
part 'both by a coordinator and two workers'
for wire in exact low; do lantrain 90 demo --workers 2 "${TINY[@]:1}" --wire "$wire" --out "$runs/demo-$wire" | end_of; done
part 'npm start: c1a97e96ed2e on every adapter'
lantrain 90 train --out "$runs/whole" | end_of

part 'kernels and functions against the reference, bit by bit'
vitest 180 test/shaders/portable test/shaders/pack-low test/train/portable test/train/low-wire test/check

for round in 1 2 3; do
  for precision in f32 portable; do
    part "speed, round $round, $precision"
    lantrain 40 bench train --preset tiny --precision "$precision" --steps 60 --json | tail -1
    lantrain 60 bench train --preset verdict --batch 2 --precision "$precision" --steps 20 --json | tail -1
  done
  part "speed, round $round, the low wire"
  lantrain 60 bench train --preset verdict --batch 2 --wire low --steps 20 --json | tail -1
done
part 'where the time goes'
lantrain 60 bench kernels --preset verdict --batch 2 --precision portable | head -40

part 'the lecture: training loss at most 1.1, validation 6.1 to 6.7; 1950097f2eeb on every adapter'
[ -e verdict.txt ] && lantrain 120 train --preset verdict --data verdict.txt --sample-tokens 0 --out "$runs/verdict" | end_of
part 'functions on every 64th input'
[ -e dist/test/shaders/portable-functions-all.js ] && timeout 60 node dist/test/shaders/portable-functions-all.js --stride 64
part 'done'
