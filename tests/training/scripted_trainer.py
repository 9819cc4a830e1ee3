"""A scripted stand-in for `llamafactory-cli`: leaves the files a training leaves, in the way it is told to.

$SCRIPT: ok | zero (exit 0, nothing trained, as when a finished run is resumed) | nan | fail | killed (after a
checkpoint) | gradient (a gradient norm that is not a number, hidden in a loss of 0) | broken (the weights are not
numbers) | idle (the weights are those of the start) | cold (idle, at a learning rate of 0). Every call is noted
in calls.txt.
"""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path

import yaml

config = yaml.safe_load(Path(sys.argv[2]).read_text())
with open("calls.txt", "a") as calls:
    calls.write(f"{sys.argv[1]} {Path(sys.argv[2]).name}\n")
if sys.argv[1] == "export":
    Path(config["export_dir"]).mkdir(parents=True)
    sys.exit(0)
out = Path(config["output_dir"])
script = os.environ.get("SCRIPT", "ok")
resumed = any(out.glob("checkpoint-*"))
print("resumed" if resumed else "fresh")
if script == "fail":
    print("ValueError: Some keys are not used by the HfArgumentParser: ['typo']")
    sys.exit(1)
steps = 0 if script == "zero" else 4
losses = [] if steps == 0 else [float("nan")] * 4 if script == "nan" else [2.0, 1.5, 1.2, 1.0]
rate = 0.0 if script == "cold" else 1e-4
norm = float("nan") if script == "gradient" else 1.0
state = {"global_step": steps,
         "log_history": [{"step": i + 1, "loss": x, "grad_norm": norm, "learning_rate": rate}
                         for i, x in enumerate(losses)]}
(out / "checkpoint-4").mkdir(parents=True, exist_ok=True)
(out / "checkpoint-4" / "trainer_state.json").write_text(json.dumps(state))
if script == "killed":
    os.kill(os.getpid(), 9)
digest = hashlib.sha1(Path(sys.argv[2]).read_bytes()).digest()
seed = 0 if script in ("idle", "cold") else int.from_bytes(digest[:3], "big") + 1
values = [float("nan") if script == "broken" else float(seed)] * 4
header = json.dumps({"lora_B": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
whole = config.get("finetuning_type") != "lora"
(out / ("model.safetensors" if whole else "adapter_model.safetensors")).write_bytes(
    struct.pack("<Q", len(header)) + header + struct.pack("<4f", *values))
(out / "trainer_state.json").write_text(json.dumps(state))
(out / "train_results.json").write_text(json.dumps({"train_loss": 0.0 if resumed or steps == 0 else 1.4}))
