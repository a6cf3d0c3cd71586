import { type DecoderArchitecture, FAMILIES, type FamilyName, mixerOf, mixersOf } from '@lorasmith/model-folder';
import { routedExpertSettings } from '../experts.js';
import { checkLinearAttention, checkSections, linearAttentionSettings, sectionSettings } from '../linear-attention.js';
import { bool, float, type Setting, text, uint } from '../metadata-setting.js';
import { deepseek2, mistral4 } from './deepseek2.js';
import { gemma2, gemma3, gemma4 } from './gemma.js';
import { checkOneRope, checkWindows, type GgufFamily, ropesByWindow, windowSettings } from './gguf-family.js';

/** The model of llama.cpp for a family; undefined: it is not written as GGUF. */
export function ggufFamily(family: string): GgufFamily | undefined {
  return WITH_CODE[family as FamilyName] ?? FAMILIES.get(family)?.gguf;
}

/** Ministral 3: queries that grow with their position, and YaRN. */
const ministral3: GgufFamily = {
  architecture: 'mistral3',
  activation: 'silu',
  adjacentPairs: true,
  settings: ({ attention: { queryGrowth } }) =>
    queryGrowth === null ? [] : [['attention.temperature_scale', float(queryGrowth.beta)]],
  check(architecture, refuseIf) {
    checkOneRope(architecture, refuseIf);
    const scaling = architecture.ropes[0]?.scaling;
    refuseIf(scaling?.type !== 'yarn' || scaling.attentionFactor !== 1, 'RoPE scaling but YaRN with the factor 1');
  },
};

/** The count of layers of which the last has no positions. */
const SMOLLM3_PERIOD = 4;

const smollm3: GgufFamily = {
  architecture: 'smollm3',
  activation: 'silu',
  adjacentPairs: true,
  biases: [],
  check(architecture, refuseIf) {
    const { ropes } = architecture;
    const isLast = (index: number) => (index + 1) % SMOLLM3_PERIOD === 0;
    const isUsual = mixersOf(architecture, 'attention').every(
      ({ rope }, index) => (ropes[rope] === null) === isLast(index),
    );
    refuseIf(!isUsual, `positions but in ${SMOLLM3_PERIOD - 1} of ${SMOLLM3_PERIOD} layers (no_rope_layers)`);
  },
};

function graniteFactors(architecture: DecoderArchitecture): Setting[] {
  const { embeddingScale, branchScale, logitScale } = architecture;
  return [
    ['embedding_scale', float(embeddingScale)],
    ['residual_scale', float(branchScale)],
    ['logit_scale', float(1 / logitScale)],
    ['attention.scale', float(mixerOf(architecture, 0, 'attention').scale)],
  ];
}

/** Granite 3: factors of embeddings, branches, logits and attention scores. */
const granite: GgufFamily = {
  architecture: 'granite',
  activation: 'silu',
  adjacentPairs: true,
  scoreScale: () => null,
  settings: graniteFactors,
};

/** Granite 3 with experts. */
const graniteMoe: GgufFamily = {
  ...granite,
  architecture: 'granitemoe',
  experts: { renormalized: true },
};

/** Granite 4 without Mamba layers and experts: with positions or without. */
const graniteMoeHybrid: GgufFamily = {
  ...granite,
  splitsGateUp: true,
  biases: ['queryKeyValue', 'attentionOutput'],
  settings: (architecture) => [
    ...graniteFactors(architecture),
    ['rope.scaling.finetuned', bool(architecture.ropes[0] !== null)],
  ],
  check({ ropes }, refuseIf) {
    refuseIf(ropes.length !== 1, 'layers without positions');
  },
};

/** Qwen3.5: linear attention in some layers. */
const qwen35: GgufFamily = {
  architecture: 'qwen35',
  activation: 'silu',
  biases: [],
  mlpNorm: 'post_attention_norm',
  settings: (architecture) => [...linearAttentionSettings(architecture), ...sectionSettings(architecture)],
  check(architecture, refuseIf) {
    checkLinearAttention(architecture, refuseIf);
    checkSections(architecture, refuseIf);
    checkOneRope(architecture, refuseIf);
  },
};

/** The same with experts. */
const qwen35Moe: GgufFamily = { ...qwen35, architecture: 'qwen35moe', experts: { renormalized: true } };

/** Qwen3-Next: the same with positions of one kind. */
const qwen3Next: GgufFamily = {
  ...qwen35Moe,
  architecture: 'qwen3next',
  settings: linearAttentionSettings,
  check(architecture, refuseIf) {
    checkLinearAttention(architecture, refuseIf);
    checkOneRope(architecture, refuseIf);
  },
};

const olmo2: GgufFamily = {
  architecture: 'olmo2',
  activation: 'silu',
  headsFillHidden: true,
  biases: [],
  ownHead: true,
};

/** OLMo 3: OLMo 2 with windows. */
const olmo3: GgufFamily = {
  ...olmo2,
  biases: ['queryKeyValue'],
  hasWindows: true,
  settings: windowSettings,
  check(architecture, refuseIf) {
    const { ofFull, ofWindowed } = checkWindows(architecture, refuseIf);
    // It reads the base of their frequencies, and computes with that of the others.
    const hasOwnBase = Boolean(ofFull && ofWindowed && ofFull.theta !== ofWindowed.theta);
    refuseIf(hasOwnBase, 'rotary base of their own in layers with a window (rope_theta)');
  },
};

/** Layers of the one release (32B) for which llama.cpp has windows. */
const LAYERS_OF_32B = 64;

/** EXAONE 4: layers without a window have no positions where others have one. */
const exaone4: GgufFamily = {
  architecture: 'exaone4',
  activation: 'silu',
  headsFillHidden: true,
  biases: [],
  hasWindows: true,
  ropeFactors: ['llama3'],
  settings: windowSettings,
  check(architecture, refuseIf) {
    const { ofFull, ofWindowed } = ropesByWindow(architecture, refuseIf);
    const hasWindows = ofWindowed !== undefined;
    refuseIf(
      hasWindows && architecture.layerCount !== LAYERS_OF_32B,
      `attention windows unless there are ${LAYERS_OF_32B} layers (it ignores sliding_window, and rotates all layers)`,
    );
    refuseIf(hasWindows && ofFull !== null, 'positions in layers without a window beside layers with one');
    refuseIf(ofWindowed === null || (!hasWindows && ofFull === null), 'layers without positions');
  },
};

/** Nemotron 4 and Minitron. */
const nemotron: GgufFamily = {
  architecture: 'nemotron',
  activation: 'relu2',
  headsFillHidden: true,
  ownHead: true,
  // llama.cpp would otherwise assume a linear one.
  settings: ({ ropes }) => (ropes[0]?.scaling ? [] : [['rope.scaling.type', text('none')]]),
  check(architecture, refuseIf) {
    checkOneRope(architecture, refuseIf);
    const type = architecture.ropes[0]?.scaling?.type;
    refuseIf(type !== undefined && type !== 'linear', 'RoPE scaling but of the type linear');
  },
};

/** GLM 4.5 to 4.7 with experts (`Glm4MoeModel` in llama.cpp's conversion/glm.py): a router that scores by sigmoid, in groups. */
const glm4Moe: GgufFamily = {
  architecture: 'glm4moe',
  activation: 'silu',
  biases: ['queryKeyValue'],
  mlpNorm: 'post_attention_norm',
  experts: { renormalized: null, firstDense: true },
  settings: routedExpertSettings,
};

/** The limit of the clamped unit (`ggml_swiglu_oai` in llama-graph.cpp). */
const GPT_OSS_LIMIT = 7;

/** gpt-oss (`GptOssModel` in llama.cpp's conversion/gpt_oss.py): sinks, windows, and experts with biases. */
const gptOss: GgufFamily = {
  architecture: 'gpt-oss',
  activation: 'quick_gelu',
  ownHead: true,
  hasWindows: true,
  roundsYarn: true,
  mlpNorm: 'post_attention_norm',
  experts: { renormalized: true },
  settings: windowSettings,
  check(architecture, refuseIf) {
    const { bias, mlp } = architecture;
    refuseIf(!bias.attentionOutput, 'attention layers without a bias (attention_bias false)');
    refuseIf(mlp.clampedAt !== GPT_OSS_LIMIT, `clamped unit but at ${GPT_OSS_LIMIT} (swiglu_limit)`);
    refuseIf(
      mixersOf(architecture, 'attention').every(({ window }) => window === null),
      'full attention in all layers (layer_types)',
    );
    const { ofFull, ofWindowed } = ropesByWindow(architecture, refuseIf);
    const differs = ofFull !== undefined && JSON.stringify(ofFull) !== JSON.stringify(ofWindowed);
    refuseIf(differs, 'positions of their own in layers with a window');
  },
};

/** The families of which llama.cpp needs more than data. */
const WITH_CODE: Readonly<Partial<Record<FamilyName, GgufFamily>>> = {
  ministral3,
  smollm3,
  granite,
  granitemoe: graniteMoe,
  granitemoeshared: graniteMoe,
  granitemoehybrid: graniteMoeHybrid,
  qwen3_next: qwen3Next,
  qwen3_5_text: qwen35,
  qwen3_5_moe_text: qwen35Moe,
  phi3: {
    architecture: 'phi3',
    activation: 'silu',
    headsFillHidden: true,
    ropeFactors: ['longrope'],
    // 0: llama.cpp would otherwise assume the window of an early release.
    settings: () => [['attention.sliding_window', uint(0)]],
  },
  gemma2,
  gemma3_text: gemma3,
  gemma4_text: gemma4,
  // It has a table of positions.
  gpt2: { architecture: 'gpt2', activation: 'gelu_tanh', check: () => {} },
  olmo2,
  olmo3,
  exaone4,
  nemotron,
  glm4_moe: glm4Moe,
  glm4_moe_lite: deepseek2,
  deepseek_v3: deepseek2,
  mistral4,
  gpt_oss: gptOss,
};
