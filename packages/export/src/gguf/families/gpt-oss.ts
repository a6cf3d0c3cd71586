import { mixersOf } from '@lorasmith/model-folder';
import { ropesByWindow, windowSettings } from './attention-windows.js';
import type { GgufFamily } from './gguf-family.js';

/** The limit of the clamped unit (`ggml_swiglu_oai` in llama-graph.cpp). */
const LIMIT = 7;

/** gpt-oss (`GptOssModel` in llama.cpp's conversion/gpt_oss.py): sinks, windows, and experts with biases. */
export const gptOss: GgufFamily = {
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
    refuseIf(mlp.clampedAt !== LIMIT, `clamped unit but at ${LIMIT} (swiglu_limit)`);
    refuseIf(
      mixersOf(architecture, 'attention').every(({ window }) => window === null),
      'full attention in all layers (layer_types)',
    );
    const { ofFull, ofWindowed } = ropesByWindow(architecture, refuseIf);
    const differs = ofFull !== undefined && JSON.stringify(ofFull) !== JSON.stringify(ofWindowed);
    refuseIf(differs, 'positions of their own in layers with a window');
  },
};
