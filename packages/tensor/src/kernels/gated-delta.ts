import type { OpAttribute } from '../binding.js';
import { boolAttribute, elementType, executeMany, intAttribute } from '../execute.js';
import { fill } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import type { TokenRows } from './token-rows.js';

/** Heads of the gated delta rule. Each key head serves as many consecutive value heads. */
export interface DeltaSettings {
  keyHeads: number;
  /** A multiple of `keyHeads`. */
  valueHeads: number;
  keySize: number;
  valueSize: number;
}

/** The inputs of the gated delta rule. */
export interface DeltaInputs {
  /** `[tokens, 2 × keyHeads × keySize + valueHeads × valueSize]`: queries, keys, values */
  qkv: Tensor;
  /** `[tokens, 2 × valueHeads]`: b, then a */
  ba: Tensor;
  /** `[valueHeads]` float32 */
  aLog: Tensor;
  /** `[valueHeads]` float32 */
  dtBias: Tensor;
  rows: TokenRows;
}

export interface DeltaOptions {
  /** `[rows, valueHeads, keySize, valueSize]` float32, the states before each row; null: zeros */
  before: Tensor | null;
  /** Whether states are kept for a backward pass. */
  record: boolean;
  /** Whether the states after each row are wanted. */
  keepLast: boolean;
}

export interface DeltaOutput {
  /** `[tokens, valueHeads × valueSize]` */
  output: Tensor;
  /** The tensor that a backward pass needs beside the inputs; null without `record` */
  kept: Tensor | null;
  /** The states after each row, in the form of `before`; null without `keepLast` */
  last: Tensor | null;
}

/** The gated delta rule and its gradient, which agree on what is kept between them. */
export interface GatedDelta {
  forward(inputs: DeltaInputs, settings: DeltaSettings, options: DeltaOptions): DeltaOutput;
  /**
   * Gradient for rows that began with zeros.
   * @param gradient `[tokens, valueHeads × valueSize]`
   * @param kept as forward gave it
   * @returns in the shapes of qkv and ba
   */
  backward(
    gradient: Tensor,
    inputs: DeltaInputs,
    kept: Tensor,
    settings: DeltaSettings,
  ): { byQkv: Tensor; byBa: Tensor };
}

/** Tokens between two states that are kept. */
export const DELTA_CHUNK = 64;

// What the ops compute: see Kernels.

export const fusedGatedDelta: GatedDelta = { forward, backward };

function forward(inputs: DeltaInputs, settings: DeltaSettings, options: DeltaOptions): DeltaOutput {
  return scope(() => {
    const { before, record, keepLast } = options;
    const attributes = [
      ...attributesOf(inputs, settings),
      boolAttribute('record', record),
      boolAttribute('keep_last', keepLast),
    ];
    const operands = [...operandsOf(inputs), before ?? fill([0], 0)];
    const [output, kept, last] = executeMany('LorasmithGatedDelta', attributes, operands, 3);
    return { output: output!, kept: record ? kept! : null, last: keepLast ? last! : null };
  });
}

function backward(
  gradient: Tensor,
  inputs: DeltaInputs,
  kept: Tensor,
  settings: DeltaSettings,
): { byQkv: Tensor; byBa: Tensor } {
  const operands = [gradient, ...operandsOf(inputs), kept];
  const [byQkv, byBa] = executeMany('LorasmithGatedDeltaGradient', attributesOf(inputs, settings), operands, 2);
  return { byQkv: byQkv!, byBa: byBa! };
}

const operandsOf = ({ qkv, ba, aLog, dtBias, rows }: DeltaInputs) => [qkv, ba, aLog, dtBias, rows.offsets];

const attributesOf = ({ qkv }: DeltaInputs, { keyHeads, valueHeads, keySize }: DeltaSettings): OpAttribute[] => [
  elementType(qkv),
  intAttribute('key_heads', keyHeads),
  intAttribute('value_heads', valueHeads),
  intAttribute('key_size', keySize),
];
