#!/usr/bin/env python3
"""What others do around a training: around_baseline.py merge|tokenize ARGUMENTS.

merge BASE ADAPTER OUTPUT: merges an adapter into its base model with PEFT, as a script would: load, merge_and_unload, save_pretrained.
tokenize MODEL ROWS.jsonl: tokenizes chats with transformers (chat template and Rust tokenizer) in one process for each core.

Prints one JSON line that `test/bench/run.mjs` reads.
"""

import json
import multiprocessing
import os
import resource
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

BATCH = 256


def merge(base_folder, adapter_folder, output_folder):
    """The seconds of each step, and the peak of memory."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    times = {}

    def timed(name, work):
        began = time.perf_counter()
        result = work()
        times[name] = time.perf_counter() - began
        return result

    base = timed("load", lambda: AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16))
    adapted = timed("load_adapter", lambda: PeftModel.from_pretrained(base, adapter_folder))
    merged = timed("merge", adapted.merge_and_unload)
    timed("save", lambda: (merged.save_pretrained(output_folder), os.sync()))
    times["seconds"] = sum(times.values())
    times["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return times


def tokens_of(lines):
    """The number of tokens of some rows, each rendered by the model's chat template."""
    texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in lines]
    return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


def tokenize(model_folder, rows_file):
    """The seconds, the tokens and the bytes of a file of rows."""
    from transformers import AutoTokenizer

    # The processes of the pool, which are forks, share it.
    global tokenizer
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    with open(rows_file, encoding="utf-8") as file:
        rows = file.readlines()
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    with multiprocessing.get_context("fork").Pool() as pool:
        began = time.perf_counter()
        tokens = sum(pool.imap(tokens_of, batches))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": tokens, "bytes": os.path.getsize(rows_file)}


print(json.dumps({"merge": merge, "tokenize": tokenize}[sys.argv[1]](*sys.argv[2:])))
