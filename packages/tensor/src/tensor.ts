import { binding } from './binding.js';

/** The element types of the engine, and TensorFlow's number (TF_DataType) for each. */
export const TF_DATA_TYPE = {
  float32: 1,
  int32: 3,
  uint8: 4,
  int64: 9,
  bool: 10,
  bfloat16: 14,
  float16: 19,
} as const;

export type DType = keyof typeof TF_DATA_TYPE;

/** The types in which a model can compute. */
export type FloatDType = 'float32' | 'bfloat16';

export const BYTES_PER_ELEMENT: Record<DType, number> = {
  float32: 4,
  int32: 4,
  uint8: 1,
  int64: 8,
  bool: 1,
  bfloat16: 2,
  float16: 2,
};

const NAMES = new Map<number, DType>(Object.entries(TF_DATA_TYPE).map(([name, number]) => [number, name as DType]));

export function dtypeOf(tfDataType: number): DType {
  const name = NAMES.get(tfDataType);
  if (name === undefined) throw new Error(`the engine does not support TensorFlow's data type ${tfDataType}`);
  return name;
}

/** A tensor in TensorFlow's memory. {@link dispose} frees it, or the end of the {@link scope} it was made in. */
export class Tensor {
  readonly id: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** The number of handles that have this id: the last one frees the memory. */
  readonly #handles: { count: number };
  #disposed = false;

  /** @param of the tensor that this one is another handle to */
  constructor(id: number, shape: readonly number[], dtype: DType, of?: Tensor) {
    this.id = id;
    this.shape = shape;
    this.dtype = dtype;
    this.#handles = of === undefined ? { count: 0 } : of.#handles;
    this.#handles.count += 1;
    scopes.at(-1)?.add(this);
  }

  get size(): number {
    return this.shape.reduce((product, dimension) => product * dimension, 1);
  }

  get sizeBytes(): number {
    return this.size * BYTES_PER_ELEMENT[this.dtype];
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** True if the memory is still there: for this handle, or for an {@link alias} of it. */
  get isLive(): boolean {
    return this.#handles.count > 0;
  }

  /** Frees the memory now, unless an {@link alias} needs it. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#handles.count -= 1;
    if (this.#handles.count === 0) binding.deleteTensor(this.id);
  }
}

/** Another handle to the same memory, which is freed with the last of them. No op runs. */
export function alias(x: Tensor): Tensor {
  if (x.disposed) throw new Error('the tensor has already been freed');
  return new Tensor(x.id, x.shape, x.dtype, x);
}

/** Plain data that holds tensors: no instances of classes. */
export type TensorTree =
  | Tensor
  | number
  | string
  | null
  | undefined
  | ArrayBufferView
  | readonly TensorTree[]
  | ReadonlyMap<unknown, TensorTree>
  | { readonly [field: string]: TensorTree };

const scopes: Set<Tensor>[] = [];

/**
 * Runs `work` and frees every tensor made in it, except those in its result (see {@link dispose}) and those passed to
 * {@link keep}. The result belongs to the surrounding scope. `work` must be synchronous.
 */
export function scope<Result>(work: () => Result): Result {
  const own = new Set<Tensor>();
  scopes.push(own);
  let result: Result | undefined;
  let finished = false;
  try {
    result = work();
    if (result instanceof Promise) throw new Error('the work of a scope must be synchronous');
    finished = true;
    return result;
  } finally {
    scopes.pop();
    const held = new Set<Tensor>();
    if (finished) collectTensors(result, held);
    const outer = scopes.at(-1);
    for (const tensor of own) {
      if (held.has(tensor)) outer?.add(tensor);
      else tensor.dispose();
    }
  }
}

/** Removes tensors from every scope: only {@link dispose} frees them. */
export function keep<Held>(held: Held): Held {
  const tensors = new Set<Tensor>();
  collectTensors(held, tensors);
  for (const tensor of tensors) for (const each of scopes) each.delete(tensor);
  return held;
}

/** Frees every tensor in `held`: in arrays, maps and fields of plain objects, at any depth. */
export function dispose(held: TensorTree): void {
  const tensors = new Set<Tensor>();
  collectTensors(held, tensors);
  for (const tensor of tensors) {
    for (const each of scopes) each.delete(tensor);
    tensor.dispose();
  }
}

/** Constants, which are made once and stay. */
const shared = new Set<Tensor>();

/** Makes a tensor a constant of the process: no scope frees it, and it does not count as live. */
export function share(tensor: Tensor): Tensor {
  shared.add(keep(tensor));
  return tensor;
}

/** Frees what {@link share} made a constant. */
export function unshare(tensor: Tensor): void {
  shared.delete(tensor);
  tensor.dispose();
}

/** The number of live tensors, without constants. If it grows from step to step, something leaks. */
export function liveTensorCount(): number {
  return binding.getNumOfTensors() - shared.size;
}

function collectTensors(value: unknown, into: Set<Tensor>): void {
  if (value instanceof Tensor) into.add(value);
  else if (Array.isArray(value)) for (const item of value) collectTensors(item, into);
  else if (value instanceof Map) for (const item of value.values()) collectTensors(item, into);
  else if (value !== null && typeof value === 'object' && !ArrayBuffer.isView(value)) {
    for (const item of Object.values(value)) collectTensors(item, into);
  }
}
