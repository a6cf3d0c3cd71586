import { dirname } from 'node:path';
import { checkRecordVersion, ProductError, RECORD_VERSION } from '@lorasmith/contracts';
import { systemErrorCode, writeWithinSpace } from '@lorasmith/storage';
import { openSafetensors, SafetensorsError, toFloat32, writeSafetensors } from '@lorasmith/weight-files';

/** The state of AdamW. */
export interface OptimizerState {
  /** Updates done. */
  step: number;
  /** `[parameters]` each, in the layout of the adapter. */
  first: Float32Array;
  second: Float32Array;
  /** `[parameters]` the gradient since the last update; null: there is none, or it is not kept. */
  gradient: Float32Array | null;
}

const HEADER_BYTES = 4_096;
const GRADIENT = 'gradient';

/** @throws ProductError storage_full */
export async function writeOptimizer(file: string, { step, first, second, gradient }: OptimizerState): Promise<void> {
  const tensor = (name: string, values: Float32Array) => ({
    name,
    dtype: 'F32' as const,
    shape: [values.length],
    data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  const metadata = { version: String(RECORD_VERSION), step: String(step) };
  const tensors = [tensor('first_moment', first), tensor('second_moment', second)];
  if (gradient !== null) tensors.push(tensor(GRADIENT, gradient));
  const bytes = tensors.reduce((sum, { data }) => sum + data.byteLength, HEADER_BYTES);
  await writeWithinSpace(dirname(file), bytes, () => writeSafetensors(file, tensors, metadata));
}

/**
 * @param parameters of the adapter
 * @throws ProductError invalid_adapter where there is none, or it is damaged or of another adapter
 */
export async function readOptimizer(file: string, parameters: number): Promise<OptimizerState> {
  try {
    const opened = await openSafetensors(file);
    try {
      checkRecordVersion({ version: Number(opened.metadata.get('version')) }, 'The state of the optimizer');
      const read = async (name: string) => toFloat32(await opened.read(name), 'F32');
      const state = {
        step: Number(opened.metadata.get('step')),
        first: await read('first_moment'),
        second: await read('second_moment'),
        gradient: opened.tensors.has(GRADIENT) ? await read(GRADIENT) : null,
      };
      const { first, second, gradient } = state;
      const isOfAdapter = [first, second, gradient ?? first].every(({ length }) => length === parameters);
      if (isOfAdapter && Number.isSafeInteger(state.step) && state.step >= 0) return state;
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') {
      const message = 'The adapter was saved without the state of an optimizer. Load it without.';
      throw new ProductError('invalid_adapter', message, { cause: error });
    }
    if (!(error instanceof SafetensorsError)) throw error;
  }
  throw new ProductError('invalid_adapter', 'The state of the optimizer is damaged, or is that of another adapter.');
}
