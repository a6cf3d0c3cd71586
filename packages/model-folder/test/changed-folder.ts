import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Dtype, openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { onTestFinished } from 'vitest';

/** A tensor of a model's file. */
export interface FileTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  data: Uint8Array;
}

/** A change of a model folder: fields of its config, undefined to remove one, and its tensors. */
export interface FolderChange {
  config?: object;
  tensors?: (all: FileTensor[]) => FileTensor[];
}

/** A changed copy of a model folder with one file of weights, for the test that runs. */
export async function changedFolder(base: string, { config = {}, tensors }: FolderChange): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'model-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(base, folder, { recursive: true });
  const own = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...own, ...config }));
  if (tensors !== undefined) await rewriteTensors(folder, tensors);
  return folder;
}

/** Rewrites the weights of a folder. */
export async function rewriteTensors(folder: string, change: (all: FileTensor[]) => FileTensor[]): Promise<void> {
  const path = join(folder, 'model.safetensors');
  const file = await openSafetensors(path);
  const all: FileTensor[] = [];
  for (const { name, dtype, shape } of file.tensors.values()) {
    all.push({ name, dtype, shape, data: await file.read(name) });
  }
  await file.close();
  await writeSafetensors(path, change(all));
}

/** The tensors with one changed; null: without it. */
export const changed =
  (name: string, change: (tensor: FileTensor) => Partial<FileTensor> | null) =>
  (all: FileTensor[]): FileTensor[] =>
    all.flatMap((tensor) => {
      if (tensor.name !== name) return tensor;
      const now = change(tensor);
      return now === null ? [] : { ...tensor, ...now };
    });
