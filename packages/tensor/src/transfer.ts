import { binding, engine, exactly } from './binding.js';
import { boolAttribute, execute, typeAttribute } from './execute.js';
import { loadFusedLibrary } from './kernels/fused-library.js';
import { type DType, scope, share, Tensor, TF_DATA_TYPE, unshare } from './tensor.js';

/**
 * A tensor with this content. An aligned buffer is shared, not copied: do not write to it afterwards.
 * @param shape its product is `data.length`
 */
export function tensorOf(data: Float32Array | Int32Array, shape: readonly number[]): Tensor {
  const dtype = data instanceof Float32Array ? 'float32' : 'int32';
  return new Tensor(binding.createTensor([...shape], TF_DATA_TYPE[dtype], data), shape, dtype);
}

/**
 * A tensor of memory that the caller has filled, which belongs to the tensor from then on: it is not copied, unless the engine
 * computes elsewhere. On a card it takes exactly its bytes.
 *
 * @param address of a mapping; `munmap(address, bytes)` frees it
 */
export function tensorOfMapping(
  { address, bytes }: { address: bigint; bytes: number },
  shape: readonly number[],
  dtype: keyof typeof STORED_WIDTH,
): Tensor {
  if (loadFusedLibrary() === null) throw new Error('the fused ops are not compiled: run npm run setup');
  const width = STORED_WIDTH[dtype];
  return scope(() => {
    const place = new Int32Array(BigUint64Array.of(address, BigInt(bytes)).buffer);
    const memory = Int32Array.of(...place, ...shape, ...(width === 1 ? [] : [width]));
    const raw = execute('LorasmithAdopt', [typeAttribute('T', 'uint8')], [tensorOf(memory, [memory.length])]);
    // Also of bytes: on a GPU it is what moves them there.
    return exactly(() => bitcast(raw, dtype));
  });
}

/** Bytes of an element of a weight file. */
const STORED_WIDTH = { float32: 4, float16: 2, bfloat16: 2, uint8: 1 } as const;

/** A tensor from the little-endian bytes of a safetensors file. */
export function tensorOfBytes(bytes: Uint8Array, shape: readonly number[], dtype: keyof typeof STORED_WIDTH): Tensor {
  const width = STORED_WIDTH[dtype];
  const stored = width === 1 ? [...shape] : [...shape, width];
  return scope(() =>
    bitcast(new Tensor(binding.createTensor(stored, TF_DATA_TYPE.uint8, bytes), stored, 'uint8'), dtype),
  );
}

/** @param raw `[…, 4]` uint8 @returns `[…]` float32, the same bits */
export function bytesAsFloat32(raw: Tensor): Tensor {
  return bitcast(raw, 'float32');
}

/** @param raw `[…, bytes of an element]`, or `[…]` of bytes */
function bitcast(raw: Tensor, dtype: keyof typeof STORED_WIDTH): Tensor {
  return execute('Bitcast', [typeAttribute('T', 'uint8'), typeAttribute('type', dtype)], [raw]);
}

/** The tensor in another element type; the tensor itself if it has that type. */
export function cast(tensor: Tensor, dtype: DType): Tensor {
  if (tensor.dtype === dtype) return tensor;
  return execute(
    'Cast',
    [typeAttribute('SrcT', tensor.dtype), typeAttribute('DstT', dtype), boolAttribute('Truncate', false)],
    [tensor],
  );
}

/** The content as float32, `[size]` in row-major order. */
export function toFloat32Array(tensor: Tensor): Float32Array {
  return scope(() => binding.tensorDataSync(cast(tensor, 'float32').id) as Float32Array);
}

export function toInt32Array(tensor: Tensor): Int32Array {
  return scope(() => binding.tensorDataSync(cast(tensor, 'int32').id) as Int32Array);
}

/** The number in a tensor of size 1. */
export function toNumber(tensor: Tensor): number {
  if (tensor.size !== 1) throw new Error(`a tensor of shape [${tensor.shape.join(',')}] is not one number`);
  return toFloat32Array(tensor)[0]!;
}

/**
 * An int32 tensor that many ops read, where they compute. TensorFlow keeps those of {@link tensorOf} in the host's memory, and
 * on the CUDA engine each op would copy them to the card.
 * @returns on other engines the tensor itself
 */
export function onDevice(tensor: Tensor): Tensor {
  return engine.kind === 'cuda' ? execute('LorasmithToDevice', [typeAttribute('T', 'int32')], [tensor]) : tensor;
}

const scalars = new Map<string, Tensor>();

/** A scalar that is made once per value and never freed: for constants such as an epsilon, not for values that change. */
export function constant(value: number, dtype: DType = 'float32'): Tensor {
  const key = `${dtype} ${value}`;
  let tensor = scalars.get(key);
  if (tensor === undefined) {
    const data = dtype === 'int32' ? Int32Array.of(value) : Float32Array.of(value);
    tensor = scope(() => share(cast(tensorOf(data, []), dtype)));
    scalars.set(key, tensor);
  }
  return tensor;
}

const vectors = new Map<string, Tensor>();
/** More than the ops of a step take. */
const MOST_VECTORS = 4096;

/**
 * `[n]` int32: a parameter of an op, such as a shape. It is made once per content, and freed when many others have been
 * used since; so it is for the op at hand only.
 */
export function parameterVector(values: readonly number[]): Tensor {
  const key = values.join(' ');
  let vector = vectors.get(key);
  if (vector === undefined) {
    vector = share(tensorOf(Int32Array.from(values), [values.length]));
    const [oldest] = vectors;
    if (vectors.size === MOST_VECTORS && oldest !== undefined) {
      vectors.delete(oldest[0]);
      unshare(oldest[1]);
    }
  } else {
    // The last in the map is the one used last.
    vectors.delete(key);
  }
  vectors.set(key, vector);
  return vector;
}

/**
 * Uniform numbers in [0, 1), the same for the same seed on every device (Philox, counter based). There is no generator
 * state, so a resumed run draws the same numbers as an uninterrupted one.
 * @param seed two integers below 2^31
 */
export function randomUniform(shape: readonly number[], seed: readonly [number, number]): Tensor {
  const shapeVector = tensorOf(Int32Array.from(shape), [shape.length]);
  const seedVector = tensorOf(Int32Array.from(seed), [2]);
  const attributes = [typeAttribute('T', 'int32'), typeAttribute('Tseed', 'int32'), typeAttribute('dtype', 'float32')];
  const result = execute('StatelessRandomUniform', attributes, [shapeVector, seedVector]);
  shapeVector.dispose();
  seedVector.dispose();
  return result;
}
