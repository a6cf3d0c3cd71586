import { type ModelFolder, readWeights, type WeightTarget } from '@lorasmith/model-folder';
import { dispose, type FloatDType, keep, type Tensor, tensorOfMapping } from '@lorasmith/tensor';
import { giveAway, type Region } from '@lorasmith/weight-files';

// A model is loaded in three phases. It is listed: a value says which tensors of the files it is read of, and how it is made of them. Its
// tensors are read. It is built of what was read. What could be asked for during the second phase is not in the list.

/** Tensors of the files that are read into one region of memory, one behind the other. */
type TensorRead = Pick<WeightTarget, 'names' | 'dtype'>;

/** A region that has been read, and for NF4 the float32 scales of its blocks. */
interface ReadRegion {
  own: Region;
  scales: Region | null;
}

/** The phase in which tensors are read. */
export interface Reading {
  /** A region of the list, when it is complete. */
  region(read: TensorRead): Promise<ReadRegion>;
  /** A tensor for the model. It is out of every scope, and is freed if loading fails. */
  give(tensor: Tensor): Tensor;
}

/** The values of all items of a list, when everything is read. */
interface ReadValues {
  of<Value>(item: ReadItem<Value>): Value;
}

/** A part of a model: the items that are read for it, and the part that is built of them when everything is read. */
export interface Listed<Part> {
  readonly items: readonly ReadItem<unknown>[];
  build(read: ReadValues): Part;
}

/** A value that is made of tensors of the files while others are still read: most often a tensor in its final form. */
export class ReadItem<Value> implements Listed<Value> {
  /** The regions that it is made of. */
  readonly reads: readonly TensorRead[];
  /** Its value, as soon as its regions are complete. */
  readonly make: (reading: Reading) => Promise<Value>;

  constructor(reads: readonly TensorRead[], make: (reading: Reading) => Promise<Value>) {
    this.reads = reads;
    this.make = make;
  }

  get items(): readonly ReadItem<unknown>[] {
    return [this];
  }

  build(read: ReadValues): Value {
    return read.of(this);
  }
}

/** Named parts of one kind; null or undefined for a part that a model does not have. */
type Parts<Part> = Readonly<Record<string, Part | readonly Part[] | null | undefined>>;

type ValueOf<Part> =
  Part extends Listed<infer Value> ? Value : Part extends readonly Listed<infer Value>[] ? Value[] : Part;
type ValuesOf<All> = { readonly [Name in keyof All]: ValueOf<All[Name]> };

/** A part of a model that is built of its own parts when everything is read. */
export function built<const All extends Parts<Listed<unknown>>, Part>(
  parts: All,
  build: (values: ValuesOf<All>) => Part,
): Listed<Part> {
  return {
    items: eachOf(parts).flatMap(({ items }) => items),
    build: (read) => build(valuesOf(parts, (part) => part.build(read)) as ValuesOf<All>),
  };
}

/**
 * An item that is made of others as soon as these are.
 * @param items that are nobody else's: the new one takes their values over
 * @param make its work, which gives the model the tensors that it makes
 */
export function made<const All extends Parts<ReadItem<unknown>>, Value>(
  items: All,
  make: (values: ValuesOf<All>, give: Reading['give']) => Value | Promise<Value>,
): ReadItem<Value> {
  const all = eachOf(items);
  return new ReadItem(
    all.flatMap(({ reads }) => reads),
    async (reading) => {
      const values = await Promise.all(all.map((item) => item.make(reading)));
      const found = new Map(all.map((item, i) => [item, values[i]]));
      return await make(valuesOf(items, (item) => found.get(item)) as ValuesOf<All>, reading.give);
    },
  );
}

/** Tensors of the files, one behind the other. */
export function regionOf(names: readonly string[], dtype: TensorRead['dtype']): ReadItem<ReadRegion> {
  const read = { names, dtype };
  return new ReadItem([read], async (reading) => await reading.region(read));
}

/** The types and the shape with which a region becomes a tensor of the engine. */
interface Filling {
  dtype: TensorRead['dtype'];
  tensorDtype: FloatDType | 'uint8';
  shape: readonly number[];
}

/** A tensor of what is read of others, one behind the other, in memory that the engine takes over without a copy. */
export function filled(names: readonly string[], { dtype, tensorDtype, shape }: Filling): ReadItem<Tensor> {
  return made({ region: regionOf(names, dtype) }, ({ region }, give) => give(adopted(region.own, shape, tensorDtype)));
}

/** A tensor in this memory, which belongs to it from then on. */
export function adopted(region: Region, shape: readonly number[], dtype: FloatDType | 'uint8'): Tensor {
  return tensorOfMapping(giveAway(region), shape, dtype);
}

function eachOf<Part>(parts: Parts<Part>): Part[] {
  return Object.values(parts).flatMap((part) => (part == null ? [] : (part as Part | readonly Part[])));
}

/** The value of each part under its name. */
function valuesOf<Part>(parts: Parts<Part>, find: (part: Part) => unknown): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(parts).map(([name, part]) => {
      if (part == null) return [name, part];
      return [name, Array.isArray(part) ? part.map(find) : find(part as Part)];
    }),
  );
}

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
