import { open, rm } from 'node:fs/promises';
import { type TensorSource, writeMerged } from '@lorasmith/weight-files';
import { layOutGguf, type Metadata, type TensorInfo } from './gguf-layout.js';

/** A tensor of the file, and where its numbers come from: its parts, one behind the other. */
export interface GgufTensorSource extends TensorInfo {
  parts: readonly TensorSource[];
}

export interface WriteGgufFileOptions {
  path: string;
  metadata: Metadata;
  tensors: readonly GgufTensorSource[];
  onProgress?(doneBytes: number, totalBytes: number): void;
  signal?: AbortSignal | undefined;
}

/**
 * Writes a new GGUF file in one pass and syncs it.
 * @returns its sha256, hexadecimal, and its bytes
 * @throws as `writeMerged` of weight-files, where the index of a tensor counts those of `tensors`. The file is then removed.
 */
export async function writeGgufFile(options: WriteGgufFileOptions): Promise<{ bytes: number; sha256: string }> {
  const { path, metadata, tensors, signal } = options;
  const { header, paddings, totalBytes } = layOutGguf(metadata, tensors);
  // Behind the parts of each tensor are zeros up to the next.
  const sources = tensors.flatMap(({ parts }, index) => [...parts, { content: new Uint8Array(paddings[index]!) }]);
  const dataBytes = totalBytes - header.byteLength;
  const handle = await open(path, 'wx');
  try {
    const sha256 = await writeMerged({
      ...{ output: handle.fd, header, tensors: sources },
      onProgress: (doneBytes) => options.onProgress?.(doneBytes, dataBytes),
      ...(signal && { signal }),
    });
    await handle.sync();
    return { bytes: totalBytes, sha256 };
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** The tensor of a part, and which of its parts it is, by the index of a TensorFault. */
export function tensorOfFault<Tensor extends Pick<GgufTensorSource, 'parts'>>(
  tensors: readonly Tensor[],
  index: number,
): { tensor: Tensor; part: number } {
  let first = 0;
  for (const tensor of tensors) {
    const { length } = tensor.parts;
    if (index <= first + length) return { tensor, part: index - first };
    first += length + 1;
  }
  throw new RangeError(`no tensor has the part ${index}`);
}
