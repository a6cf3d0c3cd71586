#!/usr/bin/env python3
"""Measures transformers' greedy `generate` on the CPU: a case as a line of JSON on its input, a result as a line on its output."""

import json
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2])).eval()


def seconds(ids, new_tokens):
    start = time.perf_counter()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return time.perf_counter() - start


for line in sys.stdin:
    case = json.loads(line)
    ids = torch.tensor(case["prompts"])
    first = seconds(ids, 1)
    print(json.dumps({"promptSeconds": first, "decodeSeconds": seconds(ids, case["newTokens"] + 1) - first}), flush=True)
