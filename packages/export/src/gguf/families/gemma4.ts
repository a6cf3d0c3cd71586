import { type DecoderArchitecture, headsOf, mixersOf } from '@lorasmith/model-folder';
import { uint } from '../metadata-setting.js';
import type { RefuseIf } from '../refuse.js';
import { checkWindows, windowSettings } from './attention-windows.js';
import { logitCap } from './gemma.js';
import type { GgufFamily } from './gguf-family.js';

/**
 * Gemma 4 (`Gemma4Model` in llama.cpp's conversion/gemma.py): heads of another size where there is a window, layers that read keys
 * and values of earlier ones, inputs of layers, and experts beside MLPs.
 */
export const gemma4: GgufFamily = {
  architecture: 'gemma4',
  activation: 'gelu_tanh',
  scoreScale: () => 1,
  biases: [],
  hasWindows: true,
  ropeFactors: ['proportional'],
  experts: { renormalized: true, optional: true, fusesGateUp: true },
  characterTokenizer: 'gemma4',
  settings(architecture) {
    const { layerInputs } = architecture;
    const { headDim } = headsOf(
      architecture,
      mixersOf(architecture, 'attention').findIndex(({ window }) => window !== null),
    );
    return [
      ...windowSettings(architecture),
      ...logitCap(architecture),
      ['attention.key_length_swa', uint(headDim)],
      ['attention.value_length_swa', uint(headDim)],
      ['rope.dimension_count_swa', uint(headDim)],
      ['attention.shared_kv_layers', uint(readers(architecture).length)],
      ['embedding_length_per_layer_input', uint(layerInputs?.size ?? 0)],
    ];
  },
  check(architecture, refuseIf) {
    const { ofFull, ofWindowed } = checkWindows(architecture, refuseIf);
    refuseIf(ofWindowed === undefined, 'attention without windows');
    // It reads factors of frequencies for these layers always.
    refuseIf(ofFull?.scaling?.type !== 'proportional', 'RoPE but of the type proportional in layers without a window');
    checkReaders(architecture, refuseIf);
  },
};

/** The layers that read keys and values of others. */
function readers(architecture: DecoderArchitecture): number[] {
  return mixersOf(architecture, 'attention').flatMap(({ keysAndValuesOf }, layer) =>
    keysAndValuesOf === undefined ? [] : [layer],
  );
}

/** Checks that the last two layers before the readers have a window, and none: llama.cpp takes theirs for those that are read. */
function checkReaders(architecture: DecoderArchitecture, refuseIf: RefuseIf): void {
  const { layerCount } = architecture;
  const first = layerCount - readers(architecture).length;
  const isElsewhere = mixersOf(architecture, 'attention').some(
    ({ window, keysAndValuesOf: owner }) => owner !== undefined && owner !== first - (window === null ? 1 : 2),
  );
  refuseIf(
    first < 2 || isElsewhere,
    'layers that read keys and values but of the last two layers before them, the second of which has no window (num_kv_shared_layers, layer_types)',
  );
}
