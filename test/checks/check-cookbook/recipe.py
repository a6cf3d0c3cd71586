"""Runs a recipe of tinker-cookbook, unchanged, for three steps, with a few rows of its own in place of datasets of the hub.

Arguments: the recipe, a folder for its log, and the base model, whose folder is in the current folder.
"""

import importlib
import runpy
import sys

import datasets

CHAT = [
    {
        "messages": [
            {"role": "user", "content": f"How much is {i} + {i + 1}?"},
            {"role": "assistant", "content": f"It is {2 * i + 1}."},
        ]
    }
    for i in range(64)
]
MATHS = [{"question": f"How much is {i} + {i + 1}?", "answer": f"Added.\n#### {2 * i + 1}"} for i in range(64)]
PAIRS = [
    {name: f"\n\nHuman: How much is {i} + 1?\n\nAssistant: {text}" for name, text in (("chosen", i + 1), ("rejected", "?"))}
    for i in range(64)
]
ROWS = {
    "HuggingFaceH4/no_robots": CHAT,
    "openai/gsm8k": MATHS,
    "zwhe99/DeepMath-103K": MATHS,
    "Anthropic/hh-rlhf": PAIRS,
}
RENDERER = "role_colon"


def load_dataset(path, *_, split=None, **__):
    rows = datasets.Dataset.from_list(ROWS[path])
    return rows if split else datasets.DatasetDict({"train": rows, "test": rows.select(range(8))})


datasets.load_dataset = load_dataset

import chz  # noqa: E402
from tinker_cookbook import model_info  # noqa: E402

# Its table has no model of this size.
model_info.get_recommended_renderer_name = lambda _: RENDERER


def run(module, **settings):
    """As a command."""
    sys.argv = [module, *(f"{name}={value}" for name, value in settings.items())]
    runpy.run_module(f"tinker_cookbook.recipes.{module}", run_name="__main__")


def run_basic(module, change, **settings):
    """With a smaller dataset than a command can ask for."""
    recipe = importlib.import_module(f"tinker_cookbook.recipes.{module}")
    config = recipe.build_config_blueprint(model).apply(settings).make()
    recipe.main(chz.replace(config, dataset_builder=change(config.dataset_builder)))


recipe, log_path, model = sys.argv[1:]
sys.argv = sys.argv[:1]
common = {"log_path": log_path, "max_steps": 3}
rollouts = {"batch_size": 2, "group_size": 4, "max_tokens": 16, "lora_rank": 8}

if recipe == "sl_basic":
    run_basic(
        recipe,
        lambda rows: chz.replace(rows, common_config=chz.replace(rows.common_config, batch_size=4, max_length=256)),
        **common,
        lora_rank=8,
    )
elif recipe == "sl_loop":
    run(recipe, **common, model_name=model, batch_size=4, max_length=256, lora_rank=8)
elif recipe == "rl_basic":
    run_basic(
        recipe, lambda rows: chz.replace(rows, batch_size=2, group_size=4), **common, lora_rank=8, max_tokens=16
    )
elif recipe == "rl_loop":
    run(recipe, **common, model_name=model, **rollouts, loss_fn="importance_sampling")
elif recipe == "rl_loop of stable_reinforce":
    run("rl_loop", **common, model_name=model, **rollouts)
elif recipe == "preference":
    run("preference.dpo.train", **common, model_name=model, batch_size=4, max_length=256, renderer_name=RENDERER)
elif recipe == "distillation":
    run(
        "distillation.on_policy_distillation",
        **common,
        **{"model_name": model, "teacher_model": model, "renderer_name": RENDERER},
        **{"groups_per_batch": 2, "group_size": 2, "max_tokens": 16, "lora_rank": 8},
    )
else:
    raise SystemExit(f"There is no recipe {recipe}.")
