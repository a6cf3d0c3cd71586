#!/usr/bin/env python3
"""Tokenizes chats with transformers (chat template and Rust tokenizer) in one process for each core.

Prints one JSON line that `test/bench/run.mjs` reads.
"""

import json
import multiprocessing
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from transformers import AutoTokenizer

model_folder, rows_file = sys.argv[1:]
BATCH = 256


def tokens_of(lines):
    """The number of tokens of some rows, each rendered by the model's chat template."""
    texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in lines]
    return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


tokenizer = AutoTokenizer.from_pretrained(model_folder)
with open(rows_file, encoding="utf-8") as file:
    rows = file.readlines()
batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
with multiprocessing.get_context("fork").Pool() as pool:
    began = time.perf_counter()
    tokens = sum(pool.imap(tokens_of, batches))
    seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "tokens": tokens, "bytes": os.path.getsize(rows_file)}))
