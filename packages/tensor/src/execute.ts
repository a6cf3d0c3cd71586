import { binding, type OpAttribute } from './binding.js';
import { type DType, dtypeOf, Tensor, TF_DATA_TYPE } from './tensor.js';

// TensorFlow's TF_AttrType.
const ATTRIBUTE_INT = 1;
const ATTRIBUTE_FLOAT = 2;
const ATTRIBUTE_BOOL = 3;
const ATTRIBUTE_TYPE = 4;

export const typeAttribute = (name: string, dtype: DType): OpAttribute => ({
  name,
  type: ATTRIBUTE_TYPE,
  value: TF_DATA_TYPE[dtype],
});
export const boolAttribute = (name: string, value: boolean): OpAttribute => ({ name, type: ATTRIBUTE_BOOL, value });
export const intAttribute = (name: string, value: number): OpAttribute => ({ name, type: ATTRIBUTE_INT, value });
export const intsAttribute = (name: string, value: number[]): OpAttribute => ({ name, type: ATTRIBUTE_INT, value });
export const floatsAttribute = (name: string, value: number[]): OpAttribute => ({ name, type: ATTRIBUTE_FLOAT, value });
export const floatAttribute = (name: string, value: number): OpAttribute => ({ name, type: ATTRIBUTE_FLOAT, value });

/** `T = dtype`, which most ops need; made once per dtype. */
const T_ATTRIBUTE = Object.fromEntries(
  Object.keys(TF_DATA_TYPE).map((dtype) => [dtype, typeAttribute('T', dtype as DType)]),
) as Record<DType, OpAttribute>;

export const elementType = (tensor: Tensor): OpAttribute => T_ATTRIBUTE[tensor.dtype];

/** Receives each op with its tensors and its duration, for a profile. */
export type OpObserver = (op: {
  name: string;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  seconds: number;
}) => void;

let observer: OpObserver | null = null;

/** Calls `observe` after every op. null stops it. */
export function observeOps(observe: OpObserver | null): void {
  observer = observe;
}

/**
 * Runs one TensorFlow op.
 * @throws Error with the op's name and the shapes of its inputs if TensorFlow rejects it, or if an input has been freed
 */
export function executeMany(name: string, attributes: OpAttribute[], inputs: Tensor[], outputCount: number): Tensor[] {
  const ids = new Array<number>(inputs.length);
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i]!;
    if (input.disposed) throw new Error(`${name}: input ${i} has already been freed`);
    ids[i] = input.id;
  }
  try {
    const start = observer === null ? 0 : performance.now();
    const outputs = binding
      .executeOp(name, attributes, ids, outputCount)
      .map((output) => new Tensor(output.id, output.shape, dtypeOf(output.dtype)));
    observer?.({ name, inputs, outputs, seconds: (performance.now() - start) / 1e3 });
    return outputs;
  } catch (error) {
    const shapes = inputs.map((input) => `${input.dtype}[${input.shape.join(',')}]`).join(' ');
    throw new Error(`${name}(${shapes}): ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

export function execute(name: string, attributes: OpAttribute[], inputs: Tensor[]): Tensor {
  return executeMany(name, attributes, inputs, 1)[0]!;
}
