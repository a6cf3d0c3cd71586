#!/usr/bin/env python3
"""Measures transformers' greedy `generate` on the CPU. Reads cases as JSON from its input, prints one JSON line of results."""

import json
import os
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
options = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(options["model"], dtype=getattr(torch, options["dtype"])).eval()


def seconds(ids, new_tokens):
    start = time.perf_counter()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return time.perf_counter() - start


results = []
for case in options["cases"]:
    ids = torch.tensor(case["prompts"])
    seconds(ids, 4)
    times = [(seconds(ids, 1), seconds(ids, case["newTokens"] + 1)) for _ in range(options["repeats"])]
    prompt = statistics.median(first for first, _ in times)
    decode = statistics.median(whole - first for first, whole in times)
    results.append({"promptSeconds": prompt, "decodeSeconds": decode})
print(json.dumps({"threads": torch.get_num_threads(), "results": results}))
