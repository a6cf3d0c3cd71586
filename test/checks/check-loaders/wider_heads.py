"""For each job on standard input, makes a model like another one, with heads of 32 numbers and random weights, and a random
adapter of PEFT for it. The result is JSON in the last line of standard output: the folder of each, or what went wrong.

vLLM's attention on processors has no heads as narrow as those of the tiny models."""

import glob
import json
import os
import shutil
import tempfile

import torch
import transformers
from jobs import run_jobs
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

HEAD = 32
# Of linear attention.
LINEAR_HEAD = 128
STD = 0.12
# Families whose norms multiply by 1 + weight, but for the gated norm of linear attention.
OFFSET_NORMS = {"gemma2", "gemma3", "gemma3_text", "nemotron", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next"}


def widen(config):
    """Changes sizes only, so that config.json stays as its release of transformers wrote it."""
    if "text_config" in config:
        widen(config["text_config"])
        if "out_hidden_size" in config["vision_config"]:
            config["vision_config"]["out_hidden_size"] = config["text_config"]["hidden_size"]
        return
    heads = config.get("num_attention_heads") or config["n_head"]
    before = config.get("head_dim") or (config.get("hidden_size") or config["n_embd"]) // heads
    config["n_embd" if "n_embd" in config else "hidden_size"] = HEAD * heads
    if "mamba_d_head" in config:
        # Granite 4 without Mamba layers has it, too, and checks it.
        config["mamba_d_head"] = config["mamba_expand"] * HEAD * heads // config["mamba_n_heads"]
    if "head_dim" in config:
        config["head_dim"] = HEAD
    for name in ("linear_key_head_dim", "linear_value_head_dim"):
        if name in config:
            config[name] = LINEAR_HEAD
    # Those of Gemma 4's layers without a window are twice as wide.
    for own in [config, *(config.get("per_layer_config") or {}).values()]:
        name = "global_head_dim" if own is config else "head_dim"
        if name in own:
            own[name] = 2 * HEAD
    for rope in (config.get("rope_parameters") or {}, config.get("rope_scaling") or {}):
        if "mrope_section" in rope:
            third, rest = divmod(int(HEAD * rope["partial_rotary_factor"]) // 2, 3)
            rope["mrope_section"] = [third + rest, third, third]
        for name in ("short_factor", "long_factor"):
            if name in rope:
                factors = rope[name]
                rope[name] = [factors[i * before // HEAD] for i in range(len(factors) * HEAD // before)]


def class_of(folder):
    [architecture] = AutoConfig.from_pretrained(folder).architectures
    return getattr(transformers, architecture)


def weights_of(model):
    """By their names in files, which are not those of the modules in composites."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(os.path.join(folder, "model.safetensors"))


def packed_of(name, state):
    """Random weights in MXFP4, of which the model has the decoded matrices: `[experts, in, out]` and `[experts, hidden, out]`."""
    parameter, part = name.rsplit("_", 1)
    experts, width, rows = state[parameter].shape
    if part == "scales":
        # Powers of two around the usual deviation.
        return torch.randint(122, 125, (experts, rows, width // 32), dtype=torch.uint8)
    return torch.randint(0, 256, (experts, rows, width // 32, 16), dtype=torch.uint8)


def make(job):
    torch.manual_seed(sum(map(ord, job["name"])))
    shutil.copytree(job["like"], job["model"], ignore=shutil.ignore_patterns("*.safetensors*"))
    path = os.path.join(job["model"], "config.json")
    with open(path) as file:
        config = json.load(file)
    widen(config)
    config.update(job["changes"])
    with open(path, "w") as file:
        json.dump(config, file, indent=2)
    model = class_of(job["model"])(AutoConfig.from_pretrained(job["model"])).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = parameter.ndim == 1 and name.endswith("weight")
            has_offset = config["model_type"] in OFFSET_NORMS and not name.endswith("linear_attn.norm.weight")
            centre = 1.0 if is_norm and not has_offset else 0.0
            parameter.copy_(centre + torch.randn_like(parameter) * STD)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer) * STD)
    weights = {}
    for shard in glob.glob(os.path.join(job["like"], "*.safetensors")):
        with safe_open(shard, "pt") as file:
            # The same names as there: a head may be stored although it is tied, or stored alone.
            weights.update({name: None for name in file.keys()})
    made = weights_of(model)
    state = model.state_dict()
    embedding = model.get_input_embeddings().weight.detach()
    for name in weights:
        if name.endswith(("_blocks", "_scales")):
            weights[name] = packed_of(name, state)
            continue
        # transformers saves a matrix for each expert, also where the files have all of a layer in one.
        own = name.replace("language_model.model.", "model.language_model.", 1) if name.startswith("language_model") else name
        stored = made[name] if name in made else state[own] if "experts" in name else embedding
        is_head = name == "lm_head.weight" and config.get("tie_word_embeddings", True)
        differs = is_head and any("embed_tokens" in other for other in weights)
        weights[name] = torch.randn_like(stored) * STD if differs else stored.clone().contiguous()
    save_file(weights, os.path.join(job["model"], "model.safetensors"), {"format": "pt"})
    with open(os.path.join(job["like_adapter"], "adapter_config.json")) as file:
        lora = json.load(file)
    adapter = get_peft_model(
        class_of(job["model"]).from_pretrained(job["model"]),
        LoraConfig(
            r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules=lora["target_modules"],
            target_parameters=lora.get("target_parameters"), fan_in_fan_out=lora["fan_in_fan_out"], task_type="CAUSAL_LM",
        ),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * STD)
    adapter.save_pretrained(job["adapter"])
    return {"model": job["model"]}


run_jobs(make)
