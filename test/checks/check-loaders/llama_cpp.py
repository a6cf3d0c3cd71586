"""Answers prompts with llama.cpp: a GGUF model, and an adapter for it if there is one. The job is JSON on standard input, the
answer JSON in the last line of standard output. With `serve`, serves OpenAI's API instead, and prints its address."""

import json
import sys
import time

import xllamacpp

job = json.load(sys.stdin) if len(sys.argv) < 2 else json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = job["model"]
params.n_ctx = 256 if "prompts" in job else 2048
params.n_parallel = 1
params.cpuparams.n_threads = 2
params.warmup = False
# The results are compared with those of float32.
params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
if job.get("adapter"):
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(job["adapter"], 1.0)]
if "serve" in job:
    params.port = 0
    server = xllamacpp.Server(params)
    print(json.dumps({"url": server.listening_address}), flush=True)
    while True:
        time.sleep(60)
server = xllamacpp.Server(params)
answers = []
for prompt in job["prompts"]:
    answer = server.handle_completions({
        "prompt": prompt, "n_predict": job["tokens"], "n_probs": 5, "temperature": 0, "cache_prompt": False,
    })  # fmt: skip
    answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    if "error" in answer:
        raise RuntimeError(json.dumps(answer["error"]))
    [choice] = answer["choices"]
    steps = [
        {each["token"]: each["logprob"] for each in step["top_logprobs"]} for step in choice["logprobs"]["content"]
    ]
    answers.append({"text": choice["text"], "steps": steps})
print(json.dumps(answers), flush=True)
