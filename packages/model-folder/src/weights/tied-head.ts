import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openSafetensors } from '@lorasmith/weight-files';
import type { DecoderArchitecture } from '../architecture.js';
import { tensorName } from '../decoder-names.js';
import { asModelError, type LocatedTensor } from './locate-tensors.js';

/** Bytes of a block: each tensor has one in memory during a comparison. */
const BLOCK_BYTES = 4 * 2 ** 20;

/**
 * Corrects the architecture if config.json ties the head to the embedding but the files disagree, as transformers 5 does:
 * a head that differs from the embedding is untied, and if the files have only a head, it is the embedding too.
 *
 * @throws ProductError model_file_corrupt when a file cannot be read
 */
export async function withHeadOfFiles(
  architecture: DecoderArchitecture,
  folder: string,
  tensors: ReadonlyMap<string, LocatedTensor>,
): Promise<DecoderArchitecture> {
  const { names, tiedHead } = architecture;
  const head = tensors.get(tensorName(names, `${names.head}.weight`));
  if (!tiedHead || head === undefined) return architecture;
  const embedding = tensors.get(tensorName(names, `${names.embedding}.weight`));
  if (embedding === undefined) {
    const headAlone = { modules: names.embedding, files: tensorName(names, names.head) };
    return { ...architecture, names: { ...names, prefixes: [headAlone, ...names.prefixes] } };
  }
  return (await areEqual(folder, embedding, head)) ? architecture : { ...architecture, tiedHead: false };
}

/** The architecture with a head of its own, and an embedding under its own name in the files. */
export function withOwnHead(architecture: DecoderArchitecture): DecoderArchitecture {
  const { names } = architecture;
  const prefixes = names.prefixes.filter(({ modules }) => modules !== names.embedding);
  return { ...architecture, tiedHead: false, names: { ...names, prefixes } };
}

/** Results of comparisons by the state of the files, since a model is read often: to list it, to plan, to train. */
const known = new Map<string, boolean>();

async function areEqual(folder: string, one: LocatedTensor, other: LocatedTensor): Promise<boolean> {
  const states = [one, other].map(async ({ file }) => {
    const { size, mtimeMs, ctimeMs } = await stat(join(folder, file));
    return [join(folder, file), size, mtimeMs, ctimeMs];
  });
  const state = JSON.stringify(await Promise.all(states));
  const equal = known.get(state) ?? (await compare(folder, [one, other]));
  known.set(state, equal);
  return equal;
}

/** True if two tensors are equal, byte for byte. It reads block by block and stops at the first difference. */
async function compare(folder: string, both: [LocatedTensor, LocatedTensor]): Promise<boolean> {
  const [one, other] = both;
  const { dtype, shape, byteLength } = one.entry;
  if (dtype !== other.entry.dtype || shape.join() !== other.entry.shape.join()) return false;
  const open: TensorReader[] = [];
  try {
    for (const tensor of both) open.push(await openTensor(folder, tensor));
    const [mine, theirs] = open as [TensorReader, TensorReader];
    for (let begin = 0; begin < byteLength; begin += BLOCK_BYTES) {
      const end = Math.min(byteLength, begin + BLOCK_BYTES);
      if (!(await mine.read(begin, end)).equals(await theirs.read(begin, end))) return false;
    }
    return true;
  } finally {
    for (const { close } of open) await close();
  }
}

interface TensorReader {
  read(begin: number, end: number): Promise<Buffer>;
  close(): Promise<void>;
}

async function openTensor(folder: string, { file, entry }: LocatedTensor): Promise<TensorReader> {
  try {
    const opened = await openSafetensors(join(folder, file));
    const read = async (begin: number, end: number) => {
      const block = Buffer.alloc(end - begin);
      await opened.readRange(entry.name, begin, block).catch((error) => {
        throw asModelError(error, folder, file);
      });
      return block;
    };
    return { read, close: opened.close };
  } catch (error) {
    throw asModelError(error, folder, file);
  }
}
