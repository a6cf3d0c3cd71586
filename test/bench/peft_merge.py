#!/usr/bin/env python3
"""Merges an adapter into its base model with PEFT, as a script would: load, merge_and_unload, save_pretrained.

Prints one JSON line that `test/bench/run.mjs` reads.
"""

import json
import os
import resource
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base_folder, adapter_folder, output_folder = sys.argv[1:]
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
print(json.dumps(times))
