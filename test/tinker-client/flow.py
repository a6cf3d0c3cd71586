"""Tinker's own package against a running service. Prints what it saw as JSON.

Arguments: the address of the service, and the name of a base model.
"""

import asyncio
import json
import os
import sys

address, base_model = sys.argv[1:]
os.environ["TINKER_BASE_URL"] = f"{address}/tinker"
os.environ["TINKER_API_KEY"] = "tml-none"

import tinker  # noqa: E402  It reads the environment.
from tinker import types  # noqa: E402

ADAM = types.AdamParams(learning_rate=0.01)
IDS = [5, 9, 14, 3, 77, 31, 8, 60]


def tensor(values, dtype):
    return types.TensorData(data=list(values), dtype=dtype, shape=[len(values)])


def datum(ids, weights=None, **fields):
    inputs = {"target_tokens": tensor(ids[1:], "int64")}
    if weights is not None:
        inputs["weights"] = tensor(weights, "float32")
    inputs.update({name: tensor(values, "float32") for name, values in fields.items()})
    return types.Datum(model_input=types.ModelInput.from_ints(ids[:-1]), loss_fn_inputs=inputs)


def refusal(call):
    """The error of a call, as the client shows it."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, getattr(error, "status_code", None), str(error)]
    return None


def logprobs(output):
    return [float(value) for value in output.loss_fn_outputs[0]["logprobs"].data]


service = tinker.ServiceClient()
rest = service.create_rest_client()
seen = {"models": [model.model_name for model in service.get_server_capabilities().supported_models]}
training = service.create_lora_training_client(base_model=base_model, rank=4, seed=1).result()
seen["info"] = training.get_info().model_dump(mode="json")

# A pipelined loop.
calls = [(training.forward_backward([datum(IDS)], "cross_entropy"), training.optim_step(ADAM)) for _ in range(3)]
seen["losses"] = [forward.result().metrics["loss:sum"] for forward, _ in calls]
seen["norms"] = [step.result().metrics["grad_norm:mean"] for _, step in calls]

# More than a chunk: the client sends chunks at once, and they arrive in any order.
many = training.forward([datum([i % 160, (i + 1) % 160, 7]) for i in range(1_100)], "cross_entropy").result()
one = training.forward([datum([1_099 % 160, 1_100 % 160, 7])], "cross_entropy").result()
seen["chunks"] = {
    "outputs": len(many.loss_fn_outputs),
    "last": [float(value) for value in many.loss_fn_outputs[-1]["logprobs"].data] == logprobs(one),
}

# Losses of rewards: at a ratio of 1, the loss is minus the sum of the advantages.
before = logprobs(training.forward([datum(IDS)], "cross_entropy").result())
advantages = [0.5, -1.0, 2.0, 0.0, 1.0, 1.0, -0.5]
reward = datum(IDS, logprobs=before, advantages=advantages)
seen["rewards"] = {
    name: training.forward([reward], name).result().metrics["loss:sum"] for name in ("importance_sampling", "ppo")
}

# Saved, and continued with the optimizer: the same numbers.
saved = training.save_state("three", ttl_seconds=3_600).result().path
seen["saved"] = saved
other = service.create_training_client_from_state_with_optimizer(saved).result()
pairs = []
for client in (training, other):
    client.forward_backward([datum(IDS)], "cross_entropy").result()
    client.optim_step(ADAM).result()
    pairs.append(client.forward([datum(IDS)], "cross_entropy").result().metrics["loss:sum"])
seen["continued"] = pairs
training.load_state(saved).result()

# Sampling from a snapshot, a checkpoint and the base model.
prompt = types.ModelInput.from_ints(IDS[:3])
greedy = types.SamplingParams(max_tokens=4, temperature=0)
snapshot = training.save_weights_and_get_sampling_client()
sampler_path = training.save_weights_for_sampler("to-sample").result().path
checkpoint = service.create_sampling_client(model_path=sampler_path).result()
base = service.create_sampling_client(base_model=base_model).result()
answers = [
    client.sample(prompt, 1, greedy, include_prompt_logprobs=True, topk_prompt_logprobs=2).result()
    for client in (snapshot, checkpoint, base)
]
seen["samples"] = [answer.sequences[0].tokens for answer in answers]
seen["sampled_logprobs"] = len(answers[0].sequences[0].logprobs)
seen["prompt_logprobs"] = answers[0].prompt_logprobs
seen["scored"] = snapshot.compute_logprobs(prompt).result()
seen["top"] = answers[0].topk_prompt_logprobs
seeded = types.SamplingParams(max_tokens=4, temperature=1.0, seed=7)
twenty = [snapshot.sample(prompt, 20, seeded).result().sequences for _ in range(2)]
seen["seeded"] = {
    "count": len(twenty[0]),
    "again": [s.tokens for s in twenty[0]] == [s.tokens for s in twenty[1]],
    "distinct": len({tuple(s.tokens) for s in twenty[0]}) > 1,
}
stop = answers[0].sequences[0].tokens[1]
stopped = snapshot.sample(prompt, 1, types.SamplingParams(max_tokens=4, temperature=0, stop=[stop])).result()
seen["stopped"] = [stopped.sequences[0].stop_reason, stopped.sequences[0].tokens, stop]


async def at_once():
    found = await asyncio.gather(*(snapshot.sample_async(prompt, 1, greedy) for _ in range(50)))
    return [answer.sequences[0].tokens for answer in found]




async def deprecated():
    forward = await training.forward_async([datum(IDS)], "cross_entropy")
    return (await forward.result_async()).metrics["loss:sum"]


plain = training.forward([datum(IDS)], "cross_entropy").result().metrics["loss:sum"]
seen["spellings"] = asyncio.run(deprecated()) == plain
seen["at_once"] = all(tokens == answers[0].sequences[0].tokens for tokens in asyncio.run(at_once()))

# A copy, which continues where its source does, with a model of its own.
copied = rest.copy_weights(saved, "ignored", ttl_seconds=3_600).result()
of_copy = service.create_training_client_from_state_with_optimizer(copied).result()
of_copy.forward_backward([datum(IDS)], "cross_entropy").result()
of_copy.optim_step(ADAM).result()
seen["copied"] = [copied, of_copy.forward([datum(IDS)], "cross_entropy").result().metrics["loss:sum"]]
rest.delete_checkpoint_from_tinker_path(copied).result()

# Lists, and what is done with a checkpoint.
seen["runs"] = sorted(run.training_run_id for run in rest.list_training_runs().result().training_runs)
seen["checkpoints"] = sorted(c.tinker_path for c in rest.list_user_checkpoints().result().checkpoints)
seen["weights"] = rest.get_weights_info_by_tinker_path(saved).result().model_dump(mode="json")
rest.publish_checkpoint_from_tinker_path(saved).result()
rest.set_checkpoint_ttl_from_tinker_path(saved, None).result()
rest.delete_checkpoint_from_tinker_path(sampler_path).result()
left = rest.list_checkpoints(saved.split("/")[2]).result().checkpoints
seen["left"] = [[c.tinker_path, c.public, c.expires_at is None] for c in left]

# Each is refused, and the session goes on.
seen["refused"] = {
    "token": refusal(lambda: training.forward_backward([datum([1, 2, 999_999])], "cross_entropy").result()),
    "nan": refusal(
        lambda: training.forward_backward(
            [datum(IDS, logprobs=before, advantages=[float("nan")] * 7)], "ppo"
        ).result()
    ),
    "long": refusal(lambda: training.forward_backward([datum([1] * 5_000)], "cross_entropy").result()),
    "model": refusal(lambda: service.create_lora_training_client(base_model="nowhere", rank=4).result()),
    "path": refusal(lambda: service.create_sampling_client(model_path="tinker://a/weights/b").result()),
    "again": refusal(lambda: training.save_state("three").result()),
    "stability": refusal(
        lambda: training.save_weights_and_get_sampling_client(record_stability_info=True)
        .sample(prompt, 1, types.SamplingParams(max_tokens=1))
        .result()
    ),
}
seen["after"] = training.forward([datum(IDS)], "cross_entropy").result().metrics["loss:sum"]
print(json.dumps(seen))
