#!/usr/bin/env python3
"""Trains the same rows with TRL's SFTTrainer, DPOTrainer or GRPOTrainer and PEFT's LoRA on the CPU, and measures the time of one pass.

Rows are JSONL in the formats that Lorasmith accepts: {"messages": [...]} (the last turn is trained), {"prompt", "completion"},
{"instruction", "input"?, "output"}; also {"question", "answer"}. With --method dpo they are
{"prompt", "chosen", "rejected"}, and the reference is computed before what is measured. With --method grpo they are {"prompt", ...}: answers
are sampled at temperature 1 and rewarded for a word, and the time of a step is measured without the first one. Prints one JSON line that
`test/bench/run.mjs` reads.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer


def conversation(row):
    """Converts a row to TRL's conversational prompt and completion, which the model's chat template renders."""
    if "messages" in row:
        return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
    if "prompt" in row:
        prompt, completion = row["prompt"], row["completion"]
    elif "instruction" in row:
        prompt = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
        completion = row["output"]
    else:
        prompt, completion = row["question"], row["answer"]
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="Hugging Face folder of the base model")
    parser.add_argument("data", help="JSONL file")
    parser.add_argument("--method", choices=["sft", "dpo", "grpo"], default="sft")
    parser.add_argument("--rows", type=int, default=64, help="how many of its first rows")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a step; prompts with --method grpo")
    parser.add_argument("--group-size", type=int, default=8, help="answers to a prompt, with --method grpo")
    parser.add_argument("--max-completion", type=int, default=64, help="tokens of an answer, with --method grpo")
    parser.add_argument(
        "--packing",
        action="store_true",
        help="pack rows into sequences of --max-length, two per batch; packed rows attend to each other, so results differ",
    )
    parser.add_argument("--targets", default="q_proj,v_proj", help="comma-separated suffixes, or all-linear")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    return parser.parse_args()


def method_of(arguments):
    """The trainer of a method, its configuration with the settings that only it has, and what makes an example of a row."""
    if arguments.method == "dpo":
        return DPOTrainer, DPOConfig, {"precompute_ref_log_probs": True}, lambda row: row
    return SFTTrainer, SFTConfig, {"completion_only_loss": True, "packing": arguments.packing}, conversation


def has_island(completions, **_):
    """The rewards of conversational answers."""
    return [float("island" in answer[0]["content"]) for answer in completions]


class StepTimes(TrainerCallback):
    """The seconds of each step, from its sampling to its update."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.started = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.started)


def train_grpo(arguments, rows):
    """A few steps of GRPO. The first one, in which memory is allocated, is not counted."""
    times = StepTimes()
    with tempfile.TemporaryDirectory() as output:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.precision)),
            processing_class=AutoTokenizer.from_pretrained(arguments.model),
            train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
            reward_funcs=has_island,
            callbacks=[times],
            peft_config=LoraConfig(
                r=arguments.rank,
                lora_alpha=2 * arguments.rank,
                target_modules=arguments.targets.split(","),
                task_type="CAUSAL_LM",
            ),
            args=GRPOConfig(
                output_dir=output,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                num_train_epochs=1,
                per_device_train_batch_size=arguments.batch_size * arguments.group_size,
                num_generations=arguments.group_size,
                max_completion_length=arguments.max_completion,
                learning_rate=1e-6,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
        )
        # Log lines would mix with the result.
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
    lengths = [entry["completions/mean_length"] for entry in trainer.state.log_history if "completions/mean_length" in entry]
    counted = slice(1, None) if len(times.seconds) > 1 else slice(None)
    mean = lambda numbers: sum(numbers) / len(numbers)
    return {
        "trainer": "trl",
        "precision": arguments.precision,
        "steps": len(times.seconds),
        "seconds_per_step": round(mean(times.seconds[counted]), 3),
        "answer_tokens": round(mean(lengths[counted]), 2),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }


def tokens_of(example):
    """Tokens of a prepared example: of both sequences of a pair."""
    if "input_ids" in example:
        return len(example["input_ids"])
    return sum(len(example["prompt_ids"]) + len(example[answer]) for answer in ["chosen_ids", "rejected_ids"])


def main():
    arguments = parse_arguments()
    with open(arguments.data, encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(arguments.rows))]
    if not rows:
        sys.exit(f"{arguments.data} has no rows")
    if arguments.method == "grpo":
        print(json.dumps(train_grpo(arguments, rows)))
        return
    targets = arguments.targets if arguments.targets == "all-linear" else arguments.targets.split(",")
    Trainer, Config, settings, example_of = method_of(arguments)
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.precision)),
            processing_class=AutoTokenizer.from_pretrained(arguments.model),
            train_dataset=Dataset.from_list([example_of(row) for row in rows]),
            peft_config=LoraConfig(
                r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules=targets, task_type="CAUSAL_LM"
            ),
            args=Config(
                output_dir=output,
                # The weights already have this precision. Autocast would change the computation.
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                num_train_epochs=1,
                per_device_train_batch_size=2 if arguments.packing else arguments.batch_size,
                learning_rate=1e-4,
                max_length=arguments.max_length,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                **settings,
            ),
        )
        tokens = sum(tokens_of(example) for example in trainer.train_dataset)
        started = time.perf_counter()
        # Log lines would mix with the result.
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
        seconds = time.perf_counter() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(
        json.dumps(
            {
                "trainer": "trl",
                "precision": arguments.precision,
                "packing": arguments.packing,
                "rows": len(rows),
                "tokens": tokens,
                "seconds": round(seconds, 2),
                "tokens_per_second": round(tokens / seconds, 1),
                # Linux reports kilobytes.
                "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
                "losses": [round(float(loss), 4) for loss in losses],
            }
        )
    )


if __name__ == "__main__":
    main()
