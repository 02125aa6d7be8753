#!/usr/bin/env bash
# The main job, end to end, on the embedded miniature: understanding -> joint training -> generation -> filter -> explicit
# feedback. Called by `make demo` (BIN: the virtual environment's programs, RUN: where results go, SEED).
set -euo pipefail
BIN=${BIN:-.venv/bin}
RUN=${RUN:-runs/demo}
SEED=${SEED:-0}
STAGES=(understanding joint feedback)
uniemo() { "$BIN/uniemo" "$@"; }
say() { printf '\n== %s (%d s so far)\n' "$1" "$SECONDS"; }

rm -rf "$RUN"
say "1/6 understanding: expert queries learn scenes, objects and emotions"
uniemo fit --config understanding.yaml --run_dir "$RUN/understanding" --seed_everything "$SEED"
say "2/6 joint training: the same features steer the diffusion model"
uniemo fit --config joint.yaml --run_dir "$RUN/joint" --model.init_from "$RUN/understanding/best.ckpt" --seed_everything "$SEED"
say "3/6 generation: 80 images for each emotion"
uniemo generate --ckpt "$RUN/joint/best.ckpt" --emotion all --num 80 --seed "$SEED" --out "$RUN/generated"
say "4/6 filter: Algorithm 1"
uniemo filter --generated "$RUN/generated" --ckpt "$RUN/joint/best.ckpt" --out "$RUN/kept"
say "5/6 explicit feedback: retraining with the kept images"
uniemo fit --config feedback.yaml --run_dir "$RUN/feedback" --model.init_from "$RUN/joint/best.ckpt" \
  --data.generated "$RUN/kept/kept.jsonl" --data.proportion 0.1 --seed_everything "$SEED" \
  --trainer.max_epochs 2
say "6/6 test of the three stages, all at once, and pictures"
# The three share the cores out: on two cores 66 s, one after the other 93 s, at once with two threads each 197 s.
cores=$("$BIN/python" -c 'import os; print(os.cpu_count() or 1)')
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # no test outlives this script
for stage in "${STAGES[@]}"; do
  OMP_NUM_THREADS=$((cores > 3 ? cores / 3 : 1)) "$BIN/uniemo" test \
    --ckpt "$RUN/$stage/best.ckpt" --run_dir "$RUN/test-$stage" >"$RUN/test-$stage.log" 2>&1 &
  tests+=($!)
done
for number in "${!STAGES[@]}"; do
  failed=0
  wait "${tests[number]}" || failed=$?
  cat "$RUN/test-${STAGES[number]}.log"
  ((failed == 0)) || exit "$failed"
done
"$BIN/python" "$(dirname "${BASH_SOURCE[0]}")/demo_page.py" "$RUN"
echo "finished in $SECONDS seconds; results in $RUN (look at $RUN/demo.png)"
