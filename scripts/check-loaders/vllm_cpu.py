"""Answers prompts with vLLM: a model, and an adapter for it if there is one. The job is JSON on standard input, the answer JSON
in the last line of standard output."""

import json
import sys

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    job = json.load(sys.stdin)
    model = LLM(
        job["model"], dtype=job["dtype"], max_model_len=64 if job["small"] else 512, enforce_eager=True, max_num_seqs=4,
        enable_lora=bool(job.get("adapter")), max_lora_rank=16, disable_log_stats=True,
    )  # fmt: skip
    tokenizer = model.get_tokenizer()
    request = LoRARequest("adapter", 1, job["adapter"]) if job.get("adapter") else None
    settings = SamplingParams(temperature=0, max_tokens=job["tokens"], logprobs=5, skip_special_tokens=False)
    prompts = [{"prompt_token_ids": tokenizer(prompt)["input_ids"]} for prompt in job["prompts"]]
    answers = []
    for output in model.generate(prompts, settings, lora_request=request, use_tqdm=False):
        steps = [{each.decoded_token: each.logprob for each in step.values()} for step in output.outputs[0].logprobs]
        answers.append({"text": output.outputs[0].text, "steps": steps})
    print(json.dumps(answers), flush=True)
