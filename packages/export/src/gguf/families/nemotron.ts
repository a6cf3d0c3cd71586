import { text } from '../metadata-setting.js';
import type { GgufFamily } from './gguf-family.js';
import { checkOneRope } from './one-rope.js';

/** Nemotron 4 and Minitron. */
export const nemotron: GgufFamily = {
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
