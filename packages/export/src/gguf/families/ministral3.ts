import { float } from '../metadata-setting.js';
import type { GgufFamily } from './gguf-family.js';
import { checkOneRope } from './one-rope.js';

/** Ministral 3: queries that grow with their position, and YaRN. */
export const ministral3: GgufFamily = {
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
