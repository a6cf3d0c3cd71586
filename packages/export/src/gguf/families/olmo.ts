import { checkWindows, windowSettings } from './attention-windows.js';
import type { GgufFamily } from './gguf-family.js';

export const olmo2: GgufFamily = {
  architecture: 'olmo2',
  activation: 'silu',
  headsFillHidden: true,
  biases: [],
  ownHead: true,
};

/** OLMo 3: OLMo 2 with windows. */
export const olmo3: GgufFamily = {
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
