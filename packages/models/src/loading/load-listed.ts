import { type ModelFolder, readWeights, type WeightTarget } from '@lorasmith/model-folder';
import { dispose, keep, type Tensor } from '@lorasmith/tensor';
import type { Listed, ReadItem, Reading, ReadRegion, ReadValues, TensorRead } from './listed.js';

export interface LoadOptions {
  /** Called as bytes arrive. Loading ends with what it throws. */
  onProgress?: ((progress: { readBytes: number; totalBytes: number }) => void) | undefined;
  /** Called at the end with the sha256 of each weight file, in their order. Each is hashed as it is read. */
  onHashed?: ((sha256s: string[]) => void) | undefined;
  /** See OutputHead. @defaultValue LOGITS_PER_CHUNK */
  logitsInChunk?: number | undefined;
}

/**
 * The part of a model that is listed, in memory: each file is read once and in its order. Its tensors are out of every scope, and the
 * caller's to free. When reading or building fails, they are freed.
 * @throws ProductError model_file_missing, model_file_corrupt
 */
export async function loadListed<Part>(folder: ModelFolder, listed: Listed<Part>, options: LoadOptions): Promise<Part> {
  const given: Tensor[] = [];
  try {
    const items = [...new Set(listed.items)];
    const read = await readItems(folder, items, given, options);
    return listed.build(read);
  } catch (error) {
    dispose(given);
    throw error;
  }
}

/** The values of items, each made as soon as its tensors are read. @param given receives the tensors that they have made */
async function readItems(
  folder: ModelFolder,
  items: readonly ReadItem<unknown>[],
  given: Tensor[],
  { onProgress, onHashed }: LoadOptions,
): Promise<ReadValues> {
  const { targets, region, abandon } = regionsOf(items.flatMap(({ reads }) => reads));
  const reading: Reading = {
    region,
    give(tensor) {
      given.push(keep(tensor));
      return tensor;
    },
  };
  const making = items.map(async (item) => await item.make(reading));
  const failures: unknown[] = [];
  const all = Promise.all(making);
  all.catch((error) => failures.push(error));
  let readBytes = 0;
  const onRead = (bytes: number) => {
    if (failures.length > 0) throw failures[0];
    readBytes += bytes;
    onProgress?.({ readBytes, totalBytes: folder.weightBytes });
  };
  try {
    const sha256s = await readWeights(folder, targets, { hash: onHashed !== undefined, onRead });
    if (sha256s !== null) onHashed?.(sha256s);
    const values = await all;
    const found = new Map(items.map((item, i) => [item, values[i]]));
    return { of: <Value>(item: ReadItem<Value>) => found.get(item) as Value };
  } catch (error) {
    abandon(error);
    // Those that still compute give tensors until then.
    await Promise.allSettled(making);
    throw error;
  }
}

/**
 * The targets of what is read, and each region when it is complete, which is nowhere kept. `abandon` rejects those that are not complete.
 */
function regionsOf(reads: readonly TensorRead[]) {
  const regions = new Map<TensorRead, Promise<ReadRegion>>();
  const waiting = new Map<TensorRead, { fill: (region: ReadRegion) => void; reject: (error: unknown) => void }>();
  for (const read of reads) {
    const filled = new Promise<ReadRegion>((fill, reject) => void waiting.set(read, { fill, reject }));
    regions.set(read, filled);
  }
  const targets = reads.map((read): WeightTarget => {
    const onFilled: WeightTarget['onFilled'] = (own, scales) => {
      waiting.get(read)!.fill({ own, scales });
      waiting.delete(read);
    };
    return { ...read, onFilled };
  });
  const region = (read: TensorRead) => {
    const filled = regions.get(read)!;
    regions.delete(read);
    return filled;
  };
  const abandon = (error: unknown) => {
    for (const { reject } of waiting.values()) reject(error);
  };
  return { targets, region, abandon };
}
