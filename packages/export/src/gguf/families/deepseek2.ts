import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { routedExpertSettings } from '../experts.js';
import { checkLatentAttention, latentIn, latentScoreScale, latentScoreSettings } from '../latent-attention.js';
import { float, type RefuseIf, uint } from '../metadata-setting.js';
import { checkOneRope, type GgufFamily } from './gguf-family.js';

/** The numbers of layers for which llama.cpp takes queries for projections of the input (`is_lite` in deepseek2.cpp). */
const LITE_LAYERS = [26, 27];
const LITE_48 = { layers: 48, vocabSize: 128_256 };

/** DeepSeek V3, GLM-4.7-Flash (`DeepseekV2Model` in llama.cpp's conversion/deepseek.py): latent attention, and experts. */
export const deepseek2: GgufFamily = {
  architecture: 'deepseek2',
  activation: 'silu',
  scoreScale: latentScoreScale,
  yarnKeepsLength: true,
  biases: [],
  experts: { renormalized: null, firstDense: true },
  settings: (architecture) => [...routedExpertSettings(architecture), ...latentScoreSettings(architecture)],
  check(architecture, refuseIf) {
    checkOneRope(architecture, refuseIf);
    checkLatentAttention(architecture, refuseIf, null);
    checkQueries(architecture, refuseIf);
  },
};

/** Mistral 4 (`Mistral4Model` in conversion/mistral3.py): the same, with queries that grow with their position. */
export const mistral4: GgufFamily = {
  ...deepseek2,
  architecture: 'mistral4',
  experts: { ...deepseek2.experts!, fusesGateUp: true },
  settings: (architecture) => {
    const { beta, originalMaxPositions } = architecture.attention.queryGrowth!;
    return [
      ...deepseek2.settings!(architecture),
      ['attention.temperature_scale', float(beta)],
      ['attention.temperature_length', uint(originalMaxPositions)],
    ];
  },
  check(architecture, refuseIf) {
    checkOneRope(architecture, refuseIf);
    checkLatentAttention(architecture, refuseIf, [1]);
    checkQueries(architecture, refuseIf);
  },
};

function checkQueries(architecture: DecoderArchitecture, refuseIf: RefuseIf): void {
  const { layerCount, vocabSize } = architecture;
  const isLite = LITE_LAYERS.includes(layerCount) || (layerCount === LITE_48.layers && vocabSize === LITE_48.vocabSize);
  const hasLatent = latentIn(architecture).queryRank !== null;
  refuseIf(hasLatent && isLite, `latent of queries in models of ${layerCount} layers (q_lora_rank)`);
  refuseIf(!hasLatent && !isLite, `queries without a latent in models of ${layerCount} layers (q_lora_rank null)`);
}
