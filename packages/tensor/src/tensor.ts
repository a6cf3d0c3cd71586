import { binding } from './binding.js';
import { BYTES_PER_ELEMENT, type DType } from './dtype.js';

/** A tensor in TensorFlow's memory. {@link dispose} frees it, or the end of the {@link scope} it was made in. */
export class Tensor {
  readonly id: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
  #disposed = false;

  constructor(id: number, shape: readonly number[], dtype: DType) {
    this.id = id;
    this.shape = shape;
    this.dtype = dtype;
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

  /** Frees the memory now. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    binding.deleteTensor(this.id);
  }
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

/** The number of live tensors. If it grows from step to step, something leaks. */
export function liveTensorCount(): number {
  return binding.getNumOfTensors();
}

function collectTensors(value: unknown, into: Set<Tensor>): void {
  if (value instanceof Tensor) into.add(value);
  else if (Array.isArray(value)) for (const item of value) collectTensors(item, into);
  else if (value instanceof Map) for (const item of value.values()) collectTensors(item, into);
  else if (value !== null && typeof value === 'object' && !ArrayBuffer.isView(value)) {
    for (const item of Object.values(value)) collectTensors(item, into);
  }
}
