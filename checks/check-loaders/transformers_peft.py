"""Answers prompts with transformers, for each job on standard input: a model, and an adapter for it with PEFT if there is one.
The answers are JSON in the last line of standard output: a list for each job, or what went wrong."""

import torch
from jobs import run_jobs
from transformers import AutoModelForCausalLM, AutoTokenizer


def answers(job):
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype="auto")
    if job.get("adapter"):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"])
    model = model.float().eval()
    results = []
    for prompt in job["prompts"]:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        steps, text = [], ""
        for _ in range(job["tokens"]):
            logprobs = torch.log_softmax(model(input_ids=ids).logits[0, -1].double(), -1)
            top = logprobs.topk(5)
            steps.append({tokenizer.decode([i]): value for i, value in zip(top.indices.tolist(), top.values.tolist())})
            text += tokenizer.decode([top.indices[0].item()])
            ids = torch.cat([ids, top.indices[:1][None]], 1)
        results.append({"text": text, "steps": steps})
    return results


with torch.no_grad():
    run_jobs(answers)
