import { ropesByWindow, windowSettings } from './attention-windows.js';
import type { GgufFamily } from './gguf-family.js';

/** Layers of the one release (32B) for which llama.cpp has windows. */
const LAYERS_OF_32B = 64;

/** EXAONE 4: layers without a window have no positions where others have one. */
export const exaone4: GgufFamily = {
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
