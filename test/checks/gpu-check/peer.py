#!/usr/bin/env python3
"""Trains rows of one length with TRL's SFTTrainer and PEFT's LoRA on a GPU, attention by SDPA, size by size.

Writes seconds per step and peak memory to RESULT_FILE after each size: the same rows, rank and layers as training-main.mjs.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

WARM_UP_STEPS = 2
RANK = 16
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class StepTimes(TrainerCallback):
    """Seconds of each step, with all work of the GPU in it."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        synchronize()
        self.started = time.perf_counter()

    def on_step_end(self, *_, **__):
        synchronize()
        self.seconds.append(time.perf_counter() - self.started)


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train(model, tokenizer, texts, length, batch_size, recompute, output):
    times = StepTimes()
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"text": text} for text in texts]),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=ALL_LINEAR, task_type="CAUSAL_LM"),
        callbacks=[times],
        args=SFTConfig(
            output_dir=output,
            use_cpu=not torch.cuda.is_available(),
            # The weights are bfloat16 already. Autocast would change the computation.
            bf16=False,
            gradient_checkpointing=recompute,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=1e-4,
            max_length=length,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    seconds = statistics.median(times.seconds[min(WARM_UP_STEPS, len(times.seconds) - 1) :])
    return {
        "recompute": recompute,
        "seconds_per_step": seconds,
        "first_step_seconds": times.seconds[0],
        "tokens_per_second": batch_size * length / seconds,
        "peak_memory_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def write(result):
    file = os.environ["RESULT_FILE"]
    with open(file + ".partial", "w", encoding="utf-8") as out:
        json.dump(result, out, indent=2)
    os.replace(file + ".partial", file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, help="JSONL of {text}, long enough for every size")
    parser.add_argument("--sizes", default="4x512")
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.bfloat16, attn_implementation="sdpa", device_map=device
    )
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    result = {
        "lines": [],
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, peft, trl)},
        "load_seconds": time.perf_counter() - started,
        "sizes": [],
    }
    with open(arguments.rows, encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for size in arguments.sizes.split(","):
        rows, length = (int(number) for number in size.split("x"))
        measured = {"rows": rows, "length": length}
        for recompute in (False, True):
            try:
                with tempfile.TemporaryDirectory() as output:
                    measured |= train(model, tokenizer, texts[: rows * arguments.steps], length, rows, recompute, output)
                measured.pop("error", None)
                break
            except torch.OutOfMemoryError as error:
                measured["error"] = f"out of memory{' with' if recompute else ' without'} recompute: {error}"[:300]
            finally:
                # SFTTrainer puts the adapter's layers into the model itself.
                for name, layer in list(model.named_modules()):
                    if hasattr(layer, "base_layer"):
                        parent, _, child = name.rpartition(".")
                        setattr(model.get_submodule(parent), child, layer.base_layer)
                if hasattr(model, "peft_config"):
                    del model.peft_config
                model.gradient_checkpointing_disable()
                gc.collect()
                if device == "cuda":
                    torch.cuda.empty_cache()
        result["sizes"].append(measured)
        write(result)


if __name__ == "__main__":
    sys.exit(main())
