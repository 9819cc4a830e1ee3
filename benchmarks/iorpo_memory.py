"""Peak memory and time of one training step: LLaMA-Factory's own ORPO and DPO beside if_factory's chunks.

    python benchmarks/iorpo_memory.py                  # on CPU: about 6 minutes on 2 cores
    python benchmarks/iorpo_memory.py --device cuda    # bf16, long responses, and the longest that fits
    python benchmarks/iorpo_memory.py --lengths 5120 --systems "stock DPO" "DPO in chunks"

A step is one pair, forward and backward, no optimizer, on a random Llama with LoRA (r 16) and gradient
checkpointing. ``stock`` is llamafactory's CustomDPOTrainer.get_batch_loss_metrics itself, ``ours`` is
ResponseLogps and iorpo_loss, ``sequential`` the same by SequentialStep (``iorpo_sequential``), ``body`` the same
model without an output head: what no head can go below. ``stock DPO`` and ``DPO in chunks`` (``logps_chunk_size``)
have the sigmoid loss, with the reference by adapters off. Each runs in a fresh process, with the same weights and
the same tokens, after a step of 64 tokens that warms up allocators and lets ours check the head.

Memory is the peak over the loaded model: on CPU the process's high-water mark of resident memory (Linux, reset
before the step), on a GPU torch.cuda.max_memory_allocated. The former counts what glibc keeps of freed blocks
under 32 MB, for the body of this small model most of its peak; ``--live`` makes glibc give every block back, so
that the peak is what is alive, as on a GPU. That costs time: read the times without it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__)
# each system and the one it is compared with, which has the same loss and comes before it
SYSTEMS = {"stock": "stock", "body": "stock", "ours": "stock", "sequential": "ours", "stock DPO": "stock DPO",
           "DPO in chunks": "stock DPO"}
BETA = 0.4
# 28 M parameters: with 49,152 entries in the vocabulary most of a small model's memory is its logits
SMALL = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6,
         "num_key_value_heads": 6, "vocab_size": 49_152, "tie_word_embeddings": True}
# 1.2 B parameters, the shape of Llama-3.2-1B
LARGE = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128_256, "tie_word_embeddings": True}
LENGTHS = {"cpu": (2048, 5120), "cuda": (8192, 15_000)}
PROMPTS = {2048: 256, 5120: 320}  # tokens of the prompt; 320 at other lengths


def load(device: str) -> Any:
    """The model as LLaMA-Factory prepares it: LoRA on every linear layer but the head, checkpointed layers."""
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(**(LARGE if device == "cuda" else SMALL), max_position_embeddings=1 << 20)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    lora = peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(model, lora).train()  # adapters are float32, as LLaMA-Factory keeps them


def pair(length: int, vocabulary: int, device: str) -> dict[str, Any]:
    """One pair [2, T]: two instructions, one response, no padding."""
    import torch

    generator = torch.Generator().manual_seed(1)
    prompt = min(PROMPTS.get(length, 320), length // 2)
    ids = torch.randint(0, vocabulary, (2, length), generator=generator)
    ids[1, prompt:] = ids[0, prompt:]
    labels = ids.clone()
    labels[:, :prompt] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {key: value.to(device) for key, value in batch.items()}


def dpo_trainer(cls: Any, loss: str, device: str, chunk_size: int) -> Any:
    """The trainer's own methods, without a Trainer's set-up; these are all the attributes they read."""
    import torch

    trainer = object.__new__(cls)
    trainer.finetuning_args = SimpleNamespace(use_ref_model=loss == "sigmoid", logps_chunk_size=chunk_size)
    trainer.accelerator = SimpleNamespace(device=torch.device(device), unwrap_model=lambda model: model)
    trainer.loss_type, trainer.beta, trainer.ld_alpha, trainer.ftx_gamma = loss, BETA, None, 0.0
    trainer.ref_model, trainer.bco_gemma, trainer.label_smoothing = None, 0.0, 0.0
    trainer.reference_free, trainer.f_divergence_type = False, "reverse_kl"
    return trainer


def step_function(system: str, device: str, chunk_size: int) -> Callable[[Any, dict[str, Any]], Any]:
    """Forward and backward of one batch; gives the loss."""
    if system == "sequential":
        from if_factory.iorpo.logps import ResponseLogps
        from if_factory.iorpo.sequential import SequentialStep

        logps = ResponseLogps(chunk_size=chunk_size)

        def sequential(model: Any, batch: dict[str, Any]) -> Any:
            step = SequentialStep(batch, logps, beta=BETA, nll_on="response")
            for row in step.order:
                step.loss(model, row).backward()
            return step.result.loss if step.result is not None else None

        return sequential
    loss = loss_function(system, device, chunk_size)

    def together(model: Any, batch: dict[str, Any]) -> Any:
        found = loss(model, batch)
        found.backward()
        return found

    return together


def loss_function(system: str, device: str, chunk_size: int) -> Callable[[Any, dict[str, Any]], Any]:
    if system in ("stock", "stock DPO", "DPO in chunks"):
        from if_factory.logps.stages import ChunkedDPOTrainer, CustomDPOTrainer

        trainer = dpo_trainer(ChunkedDPOTrainer if system == "DPO in chunks" else CustomDPOTrainer,
                              "orpo" if system == "stock" else "sigmoid", device, chunk_size)
        return lambda model, batch: trainer.get_batch_loss_metrics(model, dict(batch))[0]
    if system == "ours":
        from if_factory.iorpo.logps import ResponseLogps
        from if_factory.iorpo.loss import iorpo_loss

        logps = ResponseLogps(chunk_size=chunk_size)

        def ours(model: Any, batch: dict[str, Any]) -> Any:
            found = logps(model, batch)
            if logps.reason is not None:
                raise SystemExit(f"full logits were used: {logps.reason}")
            return iorpo_loss(found.logps, found.response, beta=BETA).loss

        return ours

    def body(model: Any, batch: dict[str, Any]) -> Any:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        decoder = model.get_base_model().model
        return decoder(**inputs, use_cache=False).last_hidden_state.float().square().mean()

    return body


class Step:
    """A loaded model and one system's loss; called with a length in tokens, it runs and measures a step."""

    def __init__(self, system: str, device: str, chunk_size: int) -> None:
        warnings.simplefilter("ignore")
        self.device = device
        self.model = load(device)
        self.step = step_function(system, device, chunk_size)
        self(64)

    def __call__(self, length: int) -> dict[str, float]:
        import torch

        batch = pair(length, self.model.config.vocab_size, self.device)
        self.model.zero_grad(set_to_none=True)
        before = self.reset()
        start, cpu = time.perf_counter(), time.process_time()
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.step(self.model, batch)
        if self.device == "cuda":
            torch.cuda.synchronize()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"mb": (self.peak() - before) / 1e6, "seconds": seconds, "cpu": cpu, "loss": loss.item()}

    def reset(self) -> int:
        """Bytes in use now; the peak counts from here."""
        gc.collect()
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets VmHWM
        return status("VmRSS")

    def peak(self) -> int:
        if self.device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated()
        return status("VmHWM")


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def longest(step: Step, most: int) -> int:
    """The largest multiple of 1,024 tokens, up to ``most``, whose step fits on the GPU."""
    import torch

    def fits(length: int) -> bool:
        try:
            step(length)
        except torch.cuda.OutOfMemoryError:
            return False
        return True

    low, high = 0, 2
    while high * 1024 <= most and fits(high * 1024):
        low, high = high, 2 * high
    high = min(high, most // 1024 + 1)  # not known to fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * 1024) else (low, middle)
    return low * 1024


def cell(system: str, length: int, args: argparse.Namespace) -> dict[str, float]:
    """Runs one cell in a process of its own; length 0 looks for the longest that fits."""
    command = [sys.executable, str(HERE), "--device", args.device, "--chunk-size", str(args.chunk_size),
               "--most", str(args.most), "--cell", system, str(length)]
    environment = {**os.environ, **({"MALLOC_MMAP_THRESHOLD_": "65536"} if args.live else {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{system} at {length} tokens ended with status {done.returncode}; see above")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_cell(system: str, length: int, args: argparse.Namespace) -> dict[str, float]:
    step = Step(system, args.device, args.chunk_size)
    return step(length) if length else {"longest": longest(step, args.most)}


def table(args: argparse.Namespace) -> None:
    print("| T | system | peak over the loaded model, MB | ratio | step, s | CPU, s | ratio | of | loss |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |", flush=True)
    for length in args.lengths:
        rows: dict[str, dict[str, float]] = {}
        for system in (s for s in SYSTEMS if s in args.systems):
            row = rows[system] = cell(system, length, args)
            base = rows.get(SYSTEMS[system], row)
            if system != "body" and abs(row["loss"] - base["loss"]) > (1e-2 if args.device == "cuda" else 1e-4):
                raise SystemExit(f"the losses differ, so this compares nothing: {rows}")
            loss = "" if system == "body" else f"{row['loss']:.5f}"
            print(f"| {length:,} | {system} | {row['mb']:,.0f} | {row['mb'] / base['mb']:.3f} | {row['seconds']:.2f} "
                  f"| {row['cpu']:.1f} | {row['cpu'] / base['cpu']:.2f} | {SYSTEMS[system]} | {loss} |", flush=True)
    if args.device == "cuda":
        found = {s: int(cell(s, 0, args)["longest"]) for s in args.systems if s != "body"}
        capped = (f"{s} {'at least ' if args.most - n < 1024 else ''}{n:,}" for s, n in found.items())
        print(f"\nlongest T that fits, in tokens: {', '.join(capped)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--lengths", type=int, nargs="+", help="T, in tokens of a padded sequence")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--chunk-size", type=int, default=1024, help="tokens whose logits are alive at a time")
    parser.add_argument("--live", action="store_true", help="CPU: count only what is alive")
    parser.add_argument("--most", type=int, default=131_072, help="where the search for the longest T ends")
    parser.add_argument("--cell", nargs=2, metavar=("SYSTEM", "T"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.lengths = args.lengths or LENGTHS[args.device]
    if args.cell:
        print(json.dumps(run_cell(args.cell[0], int(args.cell[1]), args)))
    else:
        table(args)


if __name__ == "__main__":
    main()
