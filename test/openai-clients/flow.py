"""What code for OpenAI's fine-tuning API does, with OpenAI's own package: python flow.py BASE_URL SUFFIX

Prints as JSON what it has seen, under the same names as flow.ts.
"""

import json
import re
import sys
import time

import openai
from openai import OpenAI

base_url, suffix = sys.argv[1:]
client = OpenAI(base_url=base_url, api_key="none", max_retries=0)
seen = {"version": openai.__version__}


def rows(what, count):
    row = lambda i: {"messages": [{"role": "user", "content": f"{what} {i}"}, {"role": "assistant", "content": f"It is {i}."}]}
    return "".join(json.dumps(row(i)) + "\n" for i in range(count)).encode()


def until(job, *statuses):
    deadline = time.monotonic() + 120
    while job.status not in statuses:
        if time.monotonic() > deadline or job.status == "failed":
            raise RuntimeError(f"the job is {job.status}: {job.error}")
        time.sleep(0.1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    return job


def refusal(call):
    try:
        call()
    except openai.APIStatusError as error:
        return {"type": type(error).__name__, "status": error.status_code, "code": error.code, "param": error.param}
    raise RuntimeError("it was not refused")


def lines_of(content):
    try:
        client.files.create(file=("a.jsonl", content), purpose="fine-tune")
    except openai.APIStatusError as error:
        return [int(line) for line in re.findall(r"Line (\d+)", error.message)]
    raise RuntimeError("it was not refused")


# Files
content = rows(suffix, 12)
file = client.files.create(file=(f"{suffix}.jsonl", content), purpose="fine-tune")
file = client.files.wait_for_processing(file.id)
validation = client.files.create(file=(f"{suffix}-validation.jsonl", rows(f"{suffix} again", 4)), purpose="fine-tune")
seen["file"] = {"filename": file.filename, "purpose": file.purpose, "status": file.status, "bytes": file.bytes}
seen["listed"] = [one.id for one in client.files.list(limit=1) if one.id in (file.id, validation.id)] == [validation.id, file.id]
seen["content"] = client.files.content(file.id).read() == content

# A job
job = client.fine_tuning.jobs.create(
    training_file=file.id,
    validation_file=validation.id,
    model="tiny-llama",
    suffix=suffix,
    seed=7,
    metadata={"who": suffix},
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": "auto"}}},
)
seen["created"] = {"object": job.object, "status": job.status in ("queued", "validating_files", "running"), "seed": job.seed}
job = until(job, "succeeded")
seen["job"] = {
    "error": job.error,
    "files": [job.training_file == file.id, job.validation_file == validation.id],
    "suffix": job.user_provided_suffix,
    "metadata": dict(job.metadata),
    "n_epochs": job.hyperparameters.n_epochs,
    "batch_size": job.method.supervised.hyperparameters.batch_size,
    "trained": job.trained_tokens > 0,
    "finished": job.finished_at >= job.created_at,
}
automatic = client.fine_tuning.jobs.create(
    training_file=file.id, model="tiny-llama", hyperparameters={"n_epochs": "auto", "batch_size": "auto"}
)
client.fine_tuning.jobs.cancel(automatic.id)
seen["automatic"] = [automatic.hyperparameters.n_epochs, automatic.hyperparameters.batch_size]
seen["lines"] = lines_of(content + b'{"messages": 1}\n' + content + b"none\n")
events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
seen["events"] = {
    "first": events[-1].message.startswith("Created fine-tuning job"),
    "last": events[0].message,
    "unique": len({event.id for event in events}) == len(events),
    "steps": sorted({event.data["total_steps"] for event in events if "train_loss" in (event.data or {})}),
}
checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
seen["checkpoints"] = [one.step_number for one in checkpoints]
result = client.files.content(job.result_files[0]).text.splitlines()
seen["result"] = [result[0], *[line.split(",")[0] for line in result[1:]]]
seen["result_file"] = client.files.retrieve(job.result_files[0]).purpose

# The model
model = client.models.retrieve(job.fine_tuned_model)
seen["model"] = {"id": model.id == job.fine_tuned_model, "listed": model.id in [one.id for one in client.models.list()]}
answer = client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": "Hello"}], max_tokens=3)
seen["answer"] = {"model": answer.model == model.id, "tokens": answer.usage.prompt_tokens > 0}

# Answers in JSON, calls of tools, and fields without effect
question = [{"role": "user", "content": "Is it so?"}]
schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
structured = client.chat.completions.create(
    model=model.id,
    messages=question,
    response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
    store=True,
    metadata={"who": suffix},
    service_tier="auto",
    user="somebody",
    presence_penalty=0.5,
    frequency_penalty=0.5,
    extra_body={"top_k": 20, "repetition_penalty": 1.1, "safety_identifier": "somebody", "prompt_cache_key": suffix},
)
seen["structured"] = {key: type(value) is bool for key, value in json.loads(structured.choices[0].message.content).items()}
tools = [{"type": "function", "function": {"name": "look", "parameters": schema}}]
asked = {"model": model.id, "messages": question, "tools": tools, "tool_choice": "required"}
called = client.chat.completions.create(**asked).choices[0]
call = called.message.tool_calls[0]
others = [*tools, {"type": "function", "function": {"name": "hear", "parameters": schema}}]
named = [{"type": "function", "function": {"name": "hear"}}]
tool_choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
allowed = client.chat.completions.create(**{**asked, "tools": others, "tool_choice": tool_choice}).choices[0]
deltas = [delta for chunk in client.chat.completions.create(**asked, stream=True) for one in chunk.choices for delta in one.delta.tool_calls or []]
seen["called"] = [called.finish_reason, call.function.name, list(json.loads(call.function.arguments)), [delta.function.name for delta in deltas]]
seen["allowed"] = [one.function.name for one in allowed.message.tool_calls]
replied = client.chat.completions.create(
    model=model.id,
    messages=[*question, called.message, {"role": "tool", "tool_call_id": call.id, "content": "yes"}],
    tools=tools,
    max_tokens=3,
)
seen["replied"] = replied.usage.prompt_tokens > 0

# Preferences
pair = lambda i: {
    "input": {"messages": [{"role": "user", "content": f"{suffix} {i}"}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": f"{i}"}],
    "non_preferred_output": [{"role": "assistant", "content": f"It is {i}."}],
}
pairs = "".join(json.dumps(pair(i)) + "\n" for i in range(4)).encode()
dpo = client.fine_tuning.jobs.create(
    training_file=client.files.create(file=(f"{suffix}-pairs.jsonl", pairs), purpose="fine-tune").id,
    model="tiny-llama",
    method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 1, "batch_size": 2}}},
)
dpo = until(dpo, "succeeded")
metrics = [event.data for event in client.fine_tuning.jobs.list_events(dpo.id) if event.type == "metrics"]
seen["preferred"] = [dpo.method.type, dpo.method.dpo.hyperparameters.beta, "rewards/margins" in metrics[0]]

# Pause, resume, cancel; the older place of hyperparameters
long = client.fine_tuning.jobs.create(
    training_file=file.id, model=model.id, hyperparameters={"n_epochs": 50, "batch_size": 1}
)
client.fine_tuning.jobs.pause(long.id)
seen["paused"] = until(long, "paused").status
seen["resumed"] = client.fine_tuning.jobs.resume(long.id).status
client.fine_tuning.jobs.cancel(long.id)
seen["cancelled"] = until(long, "cancelled").status
mine = [one.id for one in client.fine_tuning.jobs.list(limit=1) if one.id in (job.id, long.id)]
seen["jobs"] = mine == [long.id, job.id]

# What is not supported, or does not exist
create = client.fine_tuning.jobs.create
seen["refusals"] = {
    "reinforcement": refusal(lambda: create(training_file=file.id, model="tiny-llama", method={"type": "reinforcement"})),
    "integrations": refusal(
        lambda: create(
            training_file=file.id, model="tiny-llama", integrations=[{"type": "wandb", "wandb": {"project": "x"}}]
        )
    ),
    "file": refusal(lambda: create(training_file="file-abc", model="tiny-llama")),
    "base": refusal(lambda: create(training_file=file.id, model="gpt-4o-mini")),
    "purpose": refusal(lambda: client.files.create(file=("a.jsonl", content), purpose="assistants")),
    "row": refusal(lambda: client.files.create(file=("a.jsonl", b'{"messages": 1}\n'), purpose="fine-tune")),
    "image": refusal(
        lambda: client.chat.completions.create(
            model=model.id,
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}],
        )
    ),
}

seen["deleted"] = [client.models.delete(model.id).deleted, client.files.delete(file.id).deleted]
seen["gone"] = [
    refusal(lambda: client.models.retrieve(model.id))["code"],
    refusal(lambda: client.files.retrieve(file.id))["code"],
]
print(json.dumps(seen))
