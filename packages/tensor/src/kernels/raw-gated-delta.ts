import { add, multiply, reciprocalSquareRoot, square, subtract, sum } from '../arithmetic.js';
import { concat, fill, gather, reshape, split } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant, tensorOf, toFloat32Array } from '../transfer.js';
import type { DeltaInputs, DeltaOptions, DeltaOutput, DeltaSettings, GatedDelta } from './gated-delta.js';
import { batchMatMul } from './product.js';

// The gated delta rule in TensorFlow's own ops, token by token: many small ops, for tests, and where a fused kernel
// computes wrong numbers. What it computes: see Kernels. Letters are those of native/gated_delta.h.

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

export const rawGatedDelta: GatedDelta = { forward, backward };

function forward(inputs: DeltaInputs, settings: DeltaSettings, options: DeltaOptions): DeltaOutput {
  return scope(() => {
    const { valueHeads, keySize, valueSize } = settings;
    const { query, key, value, gates } = prepared(inputs, settings);
    const outputs: Tensor[] = [];
    const states: Tensor[] = [];
    const last: Tensor[] = [];
    for (const { first, length, row } of spansOf(inputs)) {
      let state = stateBefore(options.before, row, settings);
      for (let token = first; token < first + length; token++) {
        const step = stepOf(token, settings, { query, key, value, gates }, state);
        const after = add(step.decayed, outer(step.key, step.delta));
        if (options.record) states.push(reshape(state, [1, valueHeads, keySize, valueSize]));
        outputs.push(reshape(batchMatMul(after, step.query, { transposeA: true }), [1, valueHeads * valueSize]));
        state = after;
      }
      last.push(reshape(state, [1, valueHeads, keySize, valueSize]));
    }
    return {
      output: cast(concat(outputs, 0), inputs.qkv.dtype),
      kept: options.record ? concat(states, 0) : null,
      last: options.keepLast ? concat(last, 0) : null,
    };
  });
}

/** @param kept `[tokens, valueHeads, keySize, valueSize]`, the state before each token */
function backward(
  gradient: Tensor,
  inputs: DeltaInputs,
  kept: Tensor,
  settings: DeltaSettings,
): { byQkv: Tensor; byBa: Tensor } {
  return scope(() => {
    const { valueHeads, valueSize, keyHeads, keySize } = settings;
    const all = prepared(inputs, settings);
    const exact = cast(gradient, 'float32');
    const tokens = exact.shape[0]!;
    const parts = Array.from({ length: tokens }, (): TokenGradient | null => null);
    for (const { first, length } of spansOf(inputs)) {
      let byState = fill([valueHeads, keySize, valueSize], 0);
      for (let token = first + length - 1; token >= first; token--) {
        const own = scope(() => {
          const byOutput = reshape(rowOf(exact, token), [valueHeads, valueSize, 1]);
          const before = reshape(rowOf(kept, token), [valueHeads, keySize, valueSize]);
          return tokenGradient(byOutput, byState, stepOf(token, settings, all, before), before);
        });
        dispose(byState);
        byState = own.byBefore;
        parts[token] = own;
      }
    }
    /** The sum over the value heads of each key head, `[tokens × keyHeads, keySize]`. */
    const byKeyHead = (of: 'query' | 'key') => {
      const joined = concat(
        parts.map((part) => reshape(part![of], [1, valueHeads * keySize])),
        0,
      );
      return reshape(sum(reshape(joined, [tokens * keyHeads, valueHeads / keyHeads, keySize]), 1), [-1, keySize]);
    };
    const flat = (x: Tensor) => reshape(x, [tokens, -1]);
    const byValue = concat(
      parts.map((part) => reshape(part!.value, [1, valueHeads * valueSize])),
      0,
    );
    const byQkv = concat(
      [flat(byVector(byKeyHead('query'), all.query)), flat(byVector(byKeyHead('key'), all.key)), byValue],
      1,
    );
    const byBa = byGates(parts as TokenGradient[], all.gates, settings);
    return { byQkv: cast(byQkv, inputs.qkv.dtype), byBa: cast(byBa, inputs.ba.dtype) };
  });
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

interface Step {
  /** `[valueHeads, keySize, 1]` */
  query: Tensor;
  key: Tensor;
  /** `[valueHeads, keySize, valueSize]`: e^g S */
  decayed: Tensor;
  /** `[valueHeads, valueSize, 1]`: v - e^g Sᵀk, and β times that */
  error: Tensor;
  delta: Tensor;
  /** `[valueHeads, 1, 1]` */
  beta: Tensor;
  decay: Tensor;
}

/** @param state `[valueHeads, keySize, valueSize]`, before the token */
function stepOf(token: number, settings: DeltaSettings, all: Prepared, state: Tensor): Step {
  const { keyHeads, valueHeads, keySize, valueSize } = settings;
  const keyHeadOf = Int32Array.from({ length: valueHeads }, (_, head) => {
    return token * keyHeads + Math.floor(head / (valueHeads / keyHeads));
  });
  const headOf = Int32Array.from({ length: valueHeads }, (_, head) => token * valueHeads + head);
  const vectors = ({ output }: Normed) => {
    return reshape(gather(output, tensorOf(keyHeadOf, [valueHeads])), [valueHeads, keySize, 1]);
  };
  const numbers = (of: Float32Array) => {
    return tensorOf(of.slice(token * valueHeads, (token + 1) * valueHeads), [valueHeads, 1, 1]);
  };
  const beta = numbers(all.gates.beta);
  const decay = numbers(all.gates.decay);
  const key = vectors(all.key);
  const decayed = multiply(state, decay);
  const value = reshape(gather(all.value, tensorOf(headOf, [valueHeads])), [valueHeads, valueSize, 1]);
  const error = subtract(value, batchMatMul(decayed, key, { transposeA: true }));
  return { query: vectors(all.query), key, decayed, error, delta: multiply(beta, error), beta, decay };
}

type TokenGradient = {
  query: Tensor;
  key: Tensor;
  value: Tensor;
  /** `[valueHeads]`, by β and by g */
  beta: Tensor;
  gate: Tensor;
  /** `[valueHeads, keySize, valueSize]`, by the state before */
  byBefore: Tensor;
};

/** @param byState by the state after the token, from later tokens */
function tokenGradient(byOutput: Tensor, byState: Tensor, step: Step, before: Tensor): TokenGradient {
  const { query, key, decayed, error, delta, beta, decay } = step;
  const byAfter = add(byState, outer(query, byOutput));
  const byDelta = batchMatMul(byAfter, key, { transposeA: true }); // [valueHeads, valueSize, 1]
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

/** `[tokens, 2 × valueHeads]` by b and a */
function byGates(parts: readonly TokenGradient[], { beta, slope }: Gates, { valueHeads }: DeltaSettings): Tensor {
  const result = new Float32Array(parts.length * 2 * valueHeads);
  for (const [token, part] of parts.entries()) {
    const byBeta = toFloat32Array(part.beta);
    const byGate = toFloat32Array(part.gate);
    for (let head = 0; head < valueHeads; head++) {
      const at = token * valueHeads + head;
      result[2 * token * valueHeads + head] = byBeta[head]! * beta[at]! * (1 - beta[at]!);
      result[2 * token * valueHeads + valueHeads + head] = byGate[head]! * slope[at]!;
    }
  }
  return tensorOf(result, [parts.length, 2 * valueHeads]);
}

/** `[heads, m, 1]` and `[heads, n, 1]` → `[heads, m, n]` */
const outer = (a: Tensor, b: Tensor) => batchMatMul(a, b, { transposeB: true });

const rowOf = (x: Tensor, row: number) => gather(x, tensorOf(Int32Array.of(row), [1]));

function stateBefore(before: Tensor | null, row: number, { valueHeads, keySize, valueSize }: DeltaSettings): Tensor {
  const shape = [valueHeads, keySize, valueSize];
  return before === null ? fill(shape, 0) : reshape(rowOf(before, row), shape);
}

function spansOf({ rows: { lengths } }: DeltaInputs): { first: number; length: number; row: number }[] {
  let next = 0;
  return lengths.map((length, row) => {
    const first = next;
    next += length;
    return { first, length, row };
  });
}
