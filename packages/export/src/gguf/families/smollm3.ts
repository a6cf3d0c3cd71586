import { mixersOf } from '@lorasmith/model-folder';
import type { GgufFamily } from './gguf-family.js';

/** The last of so many layers has no positions. */
const PERIOD = 4;

export const smollm3: GgufFamily = {
  architecture: 'smollm3',
  activation: 'silu',
  adjacentPairs: true,
  biases: [],
  check(architecture, refuseIf) {
    const { ropes } = architecture;
    const isLast = (index: number) => (index + 1) % PERIOD === 0;
    const isUsual = mixersOf(architecture, 'attention').every(
      ({ rope }, index) => (ropes[rope] === null) === isLast(index),
    );
    refuseIf(!isUsual, `positions but in ${PERIOD - 1} of ${PERIOD} layers (no_rope_layers)`);
  },
};
