import { add, multiply, reciprocalSquareRoot, square, subtract, sum } from '../arithmetic.js';
import type { OpAttribute } from '../binding.js';
import { boolAttribute, elementType, executeMany, intAttribute } from '../execute.js';
import { concat, fill, gather, reshape, split } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant, tensorOf, toFloat32Array } from '../transfer.js';
import { batchMatMul } from './product.js';
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
  /** True if states are kept for a backward pass. */
  record: boolean;
  /** True if the states after each row are wanted. */
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

export const fusedGatedDelta: GatedDelta = { forward: fusedForward, backward: fusedBackward };

function fusedForward(inputs: DeltaInputs, settings: DeltaSettings, options: DeltaOptions): DeltaOutput {
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

function fusedBackward(
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

// The gated delta rule in TensorFlow's own ops: the tokens at one position of all rows together, position by position. Many small
// ops, for tests, and where a fused kernel computes wrong numbers. What it computes: see Kernels. Letters are those of
// native/ops/gated_delta/gated_delta.h.

/** `x · rsqrt(Σ x² + 1e-6)` of each head, times a factor. */
interface Normed {
  /** `[tokens × keyHeads, keySize]` float32 */
  x: Tensor;
  /** `[tokens × keyHeads, 1]` */
  inverse: Tensor;
  factor: number;
  output: Tensor;
}

interface Prepared {
  query: Normed;
  key: Normed;
  /** `[tokens × valueHeads, valueSize]` */
  value: Tensor;
  gates: Gates;
}

/** Numbers of each token and value head. */
interface Gates {
  /** β = sigmoid(b) */
  beta: Float32Array;
  /** e^g */
  decay: Float32Array;
  /** The derivative of g by a. */
  slope: Float32Array;
}

export const rawGatedDelta: GatedDelta = { forward: rawForward, backward: rawBackward };

function rawForward(inputs: DeltaInputs, settings: DeltaSettings, options: DeltaOptions): DeltaOutput {
  return scope(() => {
    const { valueHeads, keySize, valueSize } = settings;
    const all = prepared(inputs, settings);
    const steps = stepsOf(inputs);
    const outputs: Tensor[] = [];
    const states: Tensor[] = [];
    const last: { row: number; state: Tensor }[] = [];
    const { before } = options;
    const shape = [valueHeads, keySize, valueSize];
    let state = before === null ? fill([inputs.rows.lengths.length, ...shape], 0) : before; // [rows, valueHeads, …]
    let rows = [...inputs.rows.lengths.keys()];
    for (const step of [...steps, { rows: [], tokens: [] }]) {
      for (const [slot, row] of rows.entries()) {
        if (!step.rows.includes(row)) last.push({ row, state: rowOf(state, slot) });
      }
      if (step.rows.length === 0) break;
      const slots = Int32Array.from(step.rows, (row) => rows.indexOf(row));
      const own = gather(state, tensorOf(slots, [slots.length]));
      if (options.record) states.push(own);
      const { decayed, key, delta, query } = stepOf(step.tokens, settings, all, own);
      const after = add(decayed, outer(key, delta)); // [rows x valueHeads, keySize, valueSize]
      outputs.push(reshape(batchMatMul(after, query, { transposeA: true }), [-1, valueHeads * valueSize]));
      state = reshape(after, [-1, ...shape]);
      rows = step.rows;
    }
    last.sort((one, other) => one.row - other.row);
    return {
      output: cast(inOrder(steps, concat(outputs, 0)), inputs.qkv.dtype),
      kept: options.record ? concat(states, 0) : null,
      last: options.keepLast
        ? concat(
            last.map((each) => each.state),
            0,
          )
        : null,
    };
  });
}

/** @param kept `[tokens, valueHeads, keySize, valueSize]`, the state before each token, in the order of the steps */
function rawBackward(
  gradient: Tensor,
  inputs: DeltaInputs,
  kept: Tensor,
  settings: DeltaSettings,
): { byQkv: Tensor; byBa: Tensor } {
  return scope(() => {
    const { valueHeads, valueSize, keyHeads, keySize } = settings;
    const all = prepared(inputs, settings);
    const exact = cast(gradient, 'float32');
    const steps = stepsOf(inputs);
    const tokens = exact.shape[0]!;
    const parts: TokenGradient[] = [];
    let end = tokens;
    let later: { rows: readonly number[]; byState: Tensor } | null = null;
    for (const step of steps.toReversed()) {
      const { rows } = step;
      const next = later;
      const own = scope(() => {
        const byOutput = reshape(rowsAt(exact, step.tokens), [-1, valueSize, 1]);
        const before = reshape(
          rowsAt(
            kept,
            step.tokens.map((_, slot) => end - rows.length + slot),
          ),
          [-1, keySize, valueSize],
        );
        // A row without a later token has nothing to add.
        const none = fill([1, valueHeads, keySize, valueSize], 0);
        const known = next === null ? none : concat([none, reshape(next.byState, [-1, ...none.shape.slice(1)])], 0);
        const byState = rowsAt(
          known,
          rows.map((row) => 1 + (next?.rows.indexOf(row) ?? -1)),
        );
        const flat = reshape(byState, [-1, keySize, valueSize]);
        return tokenGradient(byOutput, flat, stepOf(step.tokens, settings, all, before), before);
      });
      dispose(later?.byState);
      later = { rows, byState: own.byBefore };
      parts.unshift(own);
      end -= rows.length;
    }
    const joined = (of: 'query' | 'key' | 'value' | 'beta' | 'gate') => {
      const inSteps = concat(
        parts.map((part) => part[of]),
        0,
      );
      return inOrder(steps, reshape(inSteps, [tokens, -1]));
    };
    /** The sum over the value heads of each key head, `[tokens × keyHeads, keySize]`. */
    const byKeyHead = (of: 'query' | 'key') =>
      reshape(sum(reshape(joined(of), [tokens * keyHeads, valueHeads / keyHeads, keySize]), 1), [-1, keySize]);
    const flat = (x: Tensor) => reshape(x, [tokens, -1]);
    const byQkv = concat(
      [flat(byVector(byKeyHead('query'), all.query)), flat(byVector(byKeyHead('key'), all.key)), joined('value')],
      1,
    );
    const byBa = byGates(toFloat32Array(joined('beta')), toFloat32Array(joined('gate')), all.gates, settings);
    return { byQkv: cast(byQkv, inputs.qkv.dtype), byBa: cast(byBa, inputs.ba.dtype) };
  });
}

/** The tokens at one position: of the rows that are so long, in their order. */
interface PositionStep {
  rows: number[];
  /** Their places in the stream. */
  tokens: number[];
}

function stepsOf({ rows: { lengths } }: DeltaInputs): PositionStep[] {
  const firsts = lengths.map((_, row) => lengths.slice(0, row).reduce((total, length) => total + length, 0));
  return Array.from({ length: Math.max(...lengths) }, (_, position) => {
    const rows = [...lengths.keys()].filter((row) => lengths[row]! > position);
    return { rows, tokens: rows.map((row) => firsts[row]! + position) };
  });
}

/** @param x `[tokens, …]` in the order of the steps @returns the same in the order of the stream */
function inOrder(steps: readonly PositionStep[], x: Tensor): Tensor {
  const places = new Int32Array(x.shape[0]!);
  for (const [slot, token] of steps.flatMap(({ tokens }) => tokens).entries()) places[token] = slot;
  return gather(x, tensorOf(places, [places.length]));
}

function prepared({ qkv, ba, aLog, dtBias }: DeltaInputs, settings: DeltaSettings): Prepared {
  const { keyHeads, valueHeads, keySize, valueSize } = settings;
  const widths = [keyHeads * keySize, keyHeads * keySize, valueHeads * valueSize];
  const [query, key, value] = split(cast(qkv, 'float32'), widths, 1);
  return {
    query: normed(reshape(query!, [-1, keySize]), keySize ** -0.5),
    key: normed(reshape(key!, [-1, keySize]), 1),
    value: reshape(value!, [-1, valueSize]),
    gates: gatesOf(toFloat32Array(ba), toFloat32Array(aLog), toFloat32Array(dtBias)),
  };
}

function gatesOf(ba: Float32Array, aLog: Float32Array, dtBias: Float32Array): Gates {
  const heads = aLog.length;
  const count = ba.length / 2;
  const gates = { beta: new Float32Array(count), decay: new Float32Array(count), slope: new Float32Array(count) };
  for (let i = 0; i < count; i++) {
    const head = i % heads;
    const at = Math.floor(i / heads) * 2 * heads + head;
    const step = ba[at + heads]! + dtBias[head]!;
    const rate = Math.exp(aLog[head]!);
    gates.beta[i] = logistic(ba[at]!);
    gates.decay[i] = Math.exp(-rate * (step > 20 ? step : Math.log1p(Math.exp(step))));
    gates.slope[i] = -rate * logistic(step);
  }
  return gates;
}

const logistic = (x: number) => 1 / (1 + Math.exp(-x));

function normed(x: Tensor, factor: number): Normed {
  const inverse = reciprocalSquareRoot(add(sum(square(x), -1, { keepDims: true }), constant(1e-6)));
  return { x, inverse, factor, output: multiply(multiply(x, inverse), constant(factor)) };
}

/** The gradient by x of {@link normed}. */
function byVector(gradient: Tensor, { x, inverse, factor }: Normed): Tensor {
  const along = multiply(sum(multiply(x, gradient), -1, { keepDims: true }), square(inverse));
  return multiply(multiply(subtract(gradient, multiply(x, along)), inverse), constant(factor));
}

/** The numbers of some tokens; `heads` are the value heads of all of them. */
interface Step {
  /** `[heads, keySize, 1]` */
  query: Tensor;
  key: Tensor;
  /** `[heads, keySize, valueSize]`: e^g S */
  decayed: Tensor;
  /** `[heads, valueSize, 1]`: v - e^g Sᵀk, and β times that */
  error: Tensor;
  delta: Tensor;
  /** `[heads, 1, 1]` */
  beta: Tensor;
  decay: Tensor;
}

/** @param states of the tokens, before each */
function stepOf(tokens: readonly number[], settings: DeltaSettings, all: Prepared, states: Tensor): Step {
  const { keyHeads, valueHeads, keySize, valueSize } = settings;
  const heads = tokens.flatMap((token) => Array.from({ length: valueHeads }, (_, head) => ({ token, head })));
  const count = heads.length;
  const keyHeadOf = heads.map(({ token, head }) => token * keyHeads + Math.floor(head / (valueHeads / keyHeads)));
  const headOf = heads.map(({ token, head }) => token * valueHeads + head);
  const vectors = ({ output }: Normed) => reshape(rowsAt(output, keyHeadOf), [count, keySize, 1]);
  const numbers = (of: Float32Array) =>
    tensorOf(
      Float32Array.from(headOf, (i) => of[i]!),
      [count, 1, 1],
    );
  const beta = numbers(all.gates.beta);
  const decay = numbers(all.gates.decay);
  const key = vectors(all.key);
  const decayed = multiply(reshape(states, [count, keySize, valueSize]), decay);
  const value = reshape(rowsAt(all.value, headOf), [count, valueSize, 1]);
  const error = subtract(value, batchMatMul(decayed, key, { transposeA: true }));
  return { query: vectors(all.query), key, decayed, error, delta: multiply(beta, error), beta, decay };
}

type TokenGradient = {
  query: Tensor;
  key: Tensor;
  value: Tensor;
  /** `[heads]`, by β and by g */
  beta: Tensor;
  gate: Tensor;
  /** `[heads, keySize, valueSize]`, by the state before */
  byBefore: Tensor;
};

/** @param byState by the states after the tokens, from later ones */
function tokenGradient(byOutput: Tensor, byState: Tensor, step: Step, before: Tensor): TokenGradient {
  const { query, key, decayed, error, delta, beta, decay } = step;
  const byAfter = add(byState, outer(query, byOutput));
  const byDelta = batchMatMul(byAfter, key, { transposeA: true }); // [heads, valueSize, 1]
  const byError = multiply(beta, byDelta);
  const byDecayed = subtract(byAfter, outer(key, byError));
  const ofHead = (x: Tensor) => sum(reshape(x, [x.shape[0]!, -1]), -1);
  return {
    query: batchMatMul(add(decayed, outer(key, delta)), byOutput),
    key: subtract(batchMatMul(byAfter, delta), batchMatMul(decayed, byError)),
    value: byError,
    beta: ofHead(multiply(byDelta, error)),
    gate: ofHead(multiply(byDecayed, multiply(before, decay))),
    byBefore: multiply(byDecayed, decay),
  };
}

/** `[tokens, 2 × valueHeads]` by b and a, of `[tokens, valueHeads]` by β and g */
function byGates(
  byBeta: Float32Array,
  byGate: Float32Array,
  { beta, slope }: Gates,
  { valueHeads }: DeltaSettings,
): Tensor {
  const tokens = beta.length / valueHeads;
  const result = new Float32Array(2 * beta.length);
  for (const i of beta.keys()) {
    const at = Math.floor(i / valueHeads) * 2 * valueHeads + (i % valueHeads);
    result[at] = byBeta[i]! * beta[i]! * (1 - beta[i]!);
    result[at + valueHeads] = byGate[i]! * slope[i]!;
  }
  return tensorOf(result, [tokens, 2 * valueHeads]);
}

/** `[heads, m, 1]` and `[heads, n, 1]` → `[heads, m, n]` */
const outer = (a: Tensor, b: Tensor) => batchMatMul(a, b, { transposeB: true });

const rowsAt = (x: Tensor, rows: readonly number[]) => gather(x, tensorOf(Int32Array.from(rows), [rows.length]));

const rowOf = (x: Tensor, row: number) => rowsAt(x, [row]);
