"""Conifer's training (arXiv 2404.02823): neither the paper as far as it could be read nor its repository states any.

Known is what is trained: one SFT of Mistral-7B (with the alignment handbook) or LLaMA-2-13B (with FastChat) on
Conifer and ShareGPT together, then DPO on UltraFeedback.
"""

from __future__ import annotations

from if_factory.methods.training import PresetTraining

TRAINING = {
    "paper": PresetTraining((), (
        "learning rates, schedule, warm-up, weight decay, epochs, cutoff_len and batch of SFT",
        "all settings of DPO", "everything about LoRA")),
}
TRAINING["released"] = TRAINING["paper"]
