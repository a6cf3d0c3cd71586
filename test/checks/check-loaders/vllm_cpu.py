"""Answers prompts with vLLM, in float32 or the job's dtype, for each job on standard input: a model, and an adapter if there is one. The
answers are JSON in the last line of standard output: a list for each job, or what went wrong."""

import gc
import json
import math
import os
import sys
import traceback

# The engine runs in this process: a further model needs no further process, and what it refuses is an exception here.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from vllm import LLM, SamplingParams  # noqa: E402
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402

CACHE_BYTES = 2**26


def answers(job):
    adapter = job.get("adapter")
    with open(os.path.join(job["model"], "config.json")) as file:
        # With its encoder, a composite needs files for images, and tokens of them in its tokenizer.
        is_composite = "text_config" in json.load(file)
    model = LLM(
        job["model"], dtype=job.get("dtype", "float32"), max_model_len=job["length"], max_num_batched_tokens=job["length"], max_num_seqs=1,
        enforce_eager=True, kv_cache_memory_bytes=CACHE_BYTES, enable_prefix_caching=False, disable_log_stats=True,
        enable_lora=bool(adapter), max_lora_rank=16, max_loras=1, language_model_only=is_composite,
    )  # fmt: skip
    tokenizer = model.get_tokenizer()
    request = LoRARequest("adapter", 1, adapter) if adapter else None
    settings = SamplingParams(temperature=0, max_tokens=job["tokens"], logprobs=5, skip_special_tokens=False)
    prompts = [{"prompt_token_ids": tokenizer(prompt)["input_ids"]} for prompt in job["prompts"]]
    results = []
    for output in model.generate(prompts, settings, lora_request=request, use_tqdm=False):
        # JSON has no NaN.
        steps = [
            {each.decoded_token: each.logprob if math.isfinite(each.logprob) else None for each in step.values()}
            for step in output.outputs[0].logprobs
        ]
        results.append({"text": output.outputs[0].text, "steps": steps})
    return results


if __name__ == "__main__":
    results = []
    for job in json.load(sys.stdin):
        try:
            results.append(answers(job))
        except Exception as error:
            while error.__cause__ is not None:
                error = error.__cause__
            # Some of vLLM's assertions say nothing but their source.
            text = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
            results.append({"error": f"{type(error).__name__}: {text}"[:300]})
        gc.collect()
        cleanup_dist_env_and_memory()
    print(json.dumps(results), flush=True)
