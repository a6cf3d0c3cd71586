import { createRequire } from 'node:module';

/** An attribute of an op in the addon's form; `type` is TensorFlow's TF_AttrType. */
export interface OpAttribute {
  name: string;
  type: number;
  value: boolean | number | string | number[];
}

interface OutputInfo {
  id: number;
  shape: number[];
  dtype: number;
}

/** The N-API addon of tfjs-node. Tensors are numbers, ops are names, and every call is synchronous. */
interface Binding {
  createTensor(shape: number[], dtype: number, data: Float32Array | Int32Array | Uint8Array): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): Float32Array | Int32Array | BigInt64Array | Uint8Array;
  executeOp(name: string, attributes: OpAttribute[], inputs: number[], outputCount: number): OutputInfo[];
  getNumOfTensors(): number;
  isUsingGpuDevice(): boolean;
  TF_Version: string;
}

function loadBinding(): Binding {
  // Only the binding is used; tfjs around it is CommonJS and prints notices on import.
  const tf = createRequire(import.meta.url)('@tensorflow/tfjs-node-gpu') as { backend(): { binding: Binding } };
  return tf.backend().binding;
}

export const binding = loadBinding();

/** The version of TensorFlow's C library, and whether ops run on a GPU. */
export const engine = { version: binding.TF_Version, onGpu: binding.isUsingGpuDevice() };
