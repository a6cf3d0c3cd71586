import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { ggufFamily } from './families/gguf-families.js';
import type { LayerPart } from './layer-part.js';

/** Gate, up and down of one MLP. */
export function denseParts(architecture: DecoderArchitecture): LayerPart[] {
  return [...gateUpParts(architecture), { path: architecture.names.down, name: 'ffn_down' }];
}

function gateUpParts({ family, names, mlp, intermediateSize }: DecoderArchitecture): LayerPart[] {
  const [first, second] = names.gateUp;
  const parts = ['ffn_gate', 'ffn_up'] as const;
  if (ggufFamily(family)?.splitsGateUp) {
    // The rows of the gate, and behind them those of up.
    return parts.map((name, half) => {
      return { path: first!, name, rowOrder: [{ first: half * intermediateSize, count: intermediateSize }] };
    });
  }
  const up = { path: mlp.gated && second !== undefined ? second : first!, name: parts[1] };
  return mlp.gated && second !== undefined ? [{ path: first!, name: parts[0] }, up] : [up];
}
