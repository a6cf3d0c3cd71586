import { type DecoderArchitecture, mixerOf } from '@lorasmith/model-folder';
import { bool, float, type Setting } from '../metadata-setting.js';
import type { GgufFamily } from './gguf-family.js';

function factors(architecture: DecoderArchitecture): Setting[] {
  const { embeddingScale, branchScale, logitScale } = architecture;
  return [
    ['embedding_scale', float(embeddingScale)],
    ['residual_scale', float(branchScale)],
    ['logit_scale', float(1 / logitScale)],
    ['attention.scale', float(mixerOf(architecture, 0, 'attention').scale)],
  ];
}

/** Granite 3: factors of embeddings, branches, logits and attention scores. */
export const granite: GgufFamily = {
  architecture: 'granite',
  activation: 'silu',
  adjacentPairs: true,
  scoreScale: () => null,
  settings: factors,
};

/** Granite 3 with experts. */
export const graniteMoe: GgufFamily = {
  ...granite,
  architecture: 'granitemoe',
  experts: { renormalized: true },
};

/** Granite 4 without Mamba layers and experts: with positions or without. */
export const graniteMoeHybrid: GgufFamily = {
  ...granite,
  splitsGateUp: true,
  biases: ['queryKeyValue', 'attentionOutput'],
  settings: (architecture) => [
    ...factors(architecture),
    ['rope.scaling.finetuned', bool(architecture.ropes[0] !== null)],
  ],
  check({ ropes }, refuseIf) {
    refuseIf(ropes.length !== 1, 'layers without positions');
  },
};
