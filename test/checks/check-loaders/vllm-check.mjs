import path from 'node:path';
import { FAMILIES_DIR } from '../../family-models.mjs';
import { BFLOAT16, downloadFolders, FLOAT32, manyAnswersOf, ownAnswers, TOKENS } from './answers.mjs';

/** @import { Answers } from './answers.mjs' */

const SUFFIX = '-for-vllm';
/** Settings that vLLM does not have or asks for, and what they are replaced with, so that it loads each family. @type {Record<string, object>} */
const REPLACED = {
  // Without `factor`.
  'gemma4-text-keys': {
    rope_parameters: {
      full_attention: { partial_rotary_factor: 0.5, rope_theta: 1000, rope_type: 'proportional' },
      sliding_attention: { rope_theta: 50, rope_type: 'default' },
    },
  },
  'qwen2-window': {
    use_sliding_window: false,
    sliding_window: null,
    layer_types: ['full_attention', 'full_attention'],
  },
  // The router that published files name; transformers knows no other.
  ...Object.fromEntries(
    ['deepseek_v3', 'deepseek_v3-moonlight', 'deepseek_v3-plain'].map((name) => [
      name,
      { topk_method: 'noaux_tc', scoring_func: 'sigmoid' },
    ]),
  ),
  glm4_moe_lite: { first_k_dense_replace: 1 },
};
/** Words with which vLLM is known to refuse a model or an adapter, and what they mean. @type {Record<string, string>} */
const REFUSES = {
  'Gemma2 uses `gelu_pytorch_tanh` as the hidden activation function': 'activation',
  'GPT2LMHeadModel does not support LoRA yet': 'no LoRA for GPT-2',
  'assert not config.scale_attn_by_inverse_layer_idx': 'attention scaled by layer',
  'Sliding window for some but all layers is not supported': 'window in some layers',
  "module 'triton.language' has no attribute": 'adapters of mixtures on processors, which have no Triton',
  'No Unquantized MoE backend supports the deployment configuration': 'experts with biases on processors',
  "KeyError: 'factor'": 'rope other than YaRN',
  "KeyError: 'original_max_position_embeddings'": 'rope other than YaRN',
  'is not supported by MLA': 'latent attention of this size on processors',
  'assert w1_lora is not None': 'an adapter of some matrices of the experts',
  'is not supported for quantization method gpt_oss_mxfp4': 'MXFP4 in float32',
  'expected target modules in': 'gate and up as one layer (gate_up_proj) in an adapter',
};
/** vLLM on processors has linear attention in bfloat16 alone. @param {string} name */
const dtypeOf = (name) => (/^qwen3_(5|next)/.test(name) ? 'bfloat16' : 'float32');
/** It reads PEFT's layout of an adapter of experts where it has them in one tensor, and elsewhere matrices of each. @param {string} name */
const layoutOf = (name) => (/^(gpt_oss|qwen3_5)/.test(name) ? 'peft' : 'per-expert');
/** Cases in which vLLM is known to compute something else than transformers, and why. @type {Record<string, string>} */
const DIFFERS = {
  ernie4_5: 'vLLM reads no use_bias, so it has none of the biases',
  gemma4: 'vLLM has no adapter of keys that are values, too',
  'gemma4-text-keys': 'vLLM has no adapter of keys that are values, too',
  'glm4_moe-plain': 'vLLM has no output head that is the embedding in this family',
  'granitemoe-experts': 'vLLM reads no attention_bias in this family, so it has none of the biases',
  ministral3: 'vLLM reads the growth of queries from params.json alone, not from config.json',
  'mistral3-ministral3': 'vLLM reads the growth of queries from params.json alone, not from config.json',
  'qwen3_moe-fused': 'vLLM has no window and no bias of o_proj in this family',
  'qwen3_next-experts': 'in bfloat16 tokens take other experts; transformers is 0.5 from itself in float32',
  'rope-dynamic': 'vLLM has no positions from max_position_embeddings on',
  'rope-longrope': 'vLLM takes the attention factor from max_position_embeddings, not from factor',
  'tied-head-alone': 'vLLM reads no embedding from a file that has it as lm_head only',
};

/**
 * Makes the models of the families again with heads that vLLM has, in the folder of models, each with an adapter.
 * @param {{ names: string[], prompts: Map<string, string[]>, folder: string, peers: import('./answers.mjs').Peers,
 *   report: import('./answers.mjs').Report, signal: AbortSignal }} options
 */
export async function addWideFamilies({ names, prompts, folder, peers, report, signal }) {
  if (peers.vllm === null || peers.transformers === null) return [];
  // Its latent attention cannot be widened, and vLLM has none of such sizes on processors.
  const widened = names.filter((name) => name !== 'mistral3-mistral4');
  const families = widened.map((name) => {
    const model = path.join(folder, 'models', `${name}${SUFFIX}`);
    const adapter = path.join(folder, 'wide-adapters', name);
    return { name, model, adapter, prompts: /** @type {string[]} */ (prompts.get(name)) };
  });
  const jobs = families.map(({ name, model, adapter }) => {
    const like = path.join(folder, 'models', name);
    const likeAdapter = path.join(FAMILIES_DIR, name, 'adapter_trained');
    return { name, model, adapter, like, like_adapter: likeAdapter, changes: REPLACED[name] ?? {} };
  });
  const made = await manyAnswersOf(peers.transformers, 'wider_heads.py', jobs, signal);
  return families.filter(({ name }, index) => {
    const isMade = made[index]?.model !== undefined;
    if (!isMade) report.failure(name, 'vLLM', `FAILED: not made with wider heads: ${made[index]?.error}`);
    return isMade;
  });
}

/**
 * These models with adapters in PEFT and vLLM, both in float32 where vLLM has it, in one process each.
 * @param {{ families: Awaited<ReturnType<typeof addWideFamilies>>, client: any, folder: string,
 *   peers: import('./answers.mjs').Peers, report: import('./answers.mjs').Report, signal: AbortSignal }} options
 */
export async function checkInVllm({ families, client, folder, peers, report, signal }) {
  if (peers.vllm === null) return;
  if (peers.transformers === null) return report.line('families', 'vLLM', 'left out: transformers makes their models');
  const jobs = [];
  const vllmJobs = [];
  /** @type {Answers[]} */
  const ours = [];
  for (const { name, model, adapter, prompts } of families) {
    const imported = await client.importAdapter({ folder: adapter }, { base_model: path.basename(model) });
    ours.push(await ownAnswers(client, imported.id, prompts));
    const files = await downloadFolders(client, imported.id, path.join(folder, `${name}${SUFFIX}`), signal);
    // All texts have one length. vLLM chooses the factors of LongRoPE by it, and gpt2 has no more positions.
    const common = { prompts, tokens: TOKENS, length: (prompts[0]?.length ?? 0) + TOKENS, dtype: dtypeOf(name) };
    const ofVllm = path.join(folder, `${name}${SUFFIX}`, 'adapter-vllm');
    await client.downloadAdapter(imported.id, { folder: ofVllm }, { layout: layoutOf(name), signal });
    const merged = { ...common, model: files.merged };
    jobs.push({ ...common, model, adapter: files.adapter }, merged);
    vllmJobs.push({ ...common, model, adapter: ofVllm }, merged);
  }
  const references = await manyAnswersOf(peers.transformers, 'transformers_peft.py', jobs, signal);
  const answers = await manyAnswersOf(peers.vllm, 'vllm_cpu.py', vllmJobs, signal);
  for (const [index, { name }] of families.entries()) {
    for (const [offset, what] of ['base and adapter', 'merged'].entries()) {
      const at = 2 * index + offset;
      const label = `vLLM, ${what}`;
      const refusal = Object.keys(REFUSES).find((words) => answers[at].error?.includes(words));
      if (refusal !== undefined) {
        report.line(name, label, `refused: ${REFUSES[refusal]}`);
        continue;
      }
      /** @type {[string, Answers, number][]} */
      const sides = [
        [offset === 0 ? 'PEFT' : 'transformers', references[at], dtypeOf(name) === 'float32' ? FLOAT32 : BFLOAT16],
        ['ours', /** @type {Answers} */ (ours[index]), BFLOAT16],
      ];
      report.compare(name, label, answers[at], sides, DIFFERS[name]);
    }
  }
}
