"""Answers prompts with transformers, for each job on standard input: a model, in the class that its config names, and an adapter for
it with PEFT if there is one, whose keys are all those that the class has. With `nf4` bitsandbytes quantizes the model. With `q8_0_experts`
what gpt-oss's experts multiply is rounded to 8 bits, as in llama.cpp where their weights are MXFP4. The answers are JSON in the last line of
standard output: a list for each job, or what went wrong."""

import torch
import transformers
from jobs import run_jobs
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig


def quantized(load, folder):
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = load(folder, dtype="auto", quantization_config=settings, device_map="cpu")
    for module in model.modules():
        # With AVX512-BF16, layers that are not trained have their scales rounded to bfloat16.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    return model


def rounded_to_q8_0(x):
    """As quantize_row_q8_0 of ggml: codes of 8 bits in blocks of 32 numbers, each with a scale in float16."""
    blocks = x.reshape(-1, 32)
    scales = blocks.abs().amax(-1, keepdim=True) / 127
    codes = (blocks * torch.where(scales == 0, 0, 1 / scales)).round()
    return (codes * scales.half().float()).reshape(x.shape)


def round_what_experts_multiply(model):
    experts = [module for module in model.modules() if type(module).__name__ == "GptOssExperts"]
    if not experts:
        raise RuntimeError("error: the model has no experts of gpt-oss")
    for module in experts:
        module.register_forward_pre_hook(lambda _, values: (rounded_to_q8_0(values[0]), *values[1:]))
        module._apply_gate = lambda gate_up, apply=module._apply_gate: rounded_to_q8_0(apply(gate_up))


def answers(job):
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    config = AutoConfig.from_pretrained(job["model"])
    [architecture] = config.architectures
    load = getattr(transformers, architecture).from_pretrained
    # torch's grouped product needs widths that are multiples of 16 bytes.
    has_experts = any(hasattr(config.get_text_config(), name) for name in ("num_experts_per_tok", "top_k_experts"))
    experts = {"experts_implementation": "eager"} if has_experts else {}
    model = quantized(load, job["model"]) if job.get("nf4") else load(job["model"], dtype="auto", **experts)
    if job.get("adapter"):
        from peft import PeftConfig, PeftModel

        model = PeftModel(model, PeftConfig.from_pretrained(job["adapter"]))
        result = model.load_adapter(job["adapter"], "default")
        if result.missing_keys or result.unexpected_keys:
            raise RuntimeError(f"error: missing {result.missing_keys[:3]}, unexpected {result.unexpected_keys[:3]}")
    model = (model if job.get("nf4") else model.float()).eval()
    if job.get("q8_0_experts"):
        round_what_experts_multiply(model)
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
