import { bytesText, type DownloadStream } from '@lorasmith/client/core';
import { ProductError } from '@lorasmith/contracts';

/** The most that a browser without a file system of its own must hold in memory. */
export const MAX_MEMORY_BYTES = 1_000_000_000;

interface WritableFile {
  write(chunk: Uint8Array): Promise<void>;
  close(): Promise<void>;
  abort(): Promise<void>;
}

type SavePicker = (options: { suggestedName: string }) => Promise<{ createWritable(): Promise<WritableFile> }>;

export interface SaveOptions {
  /** The suggested name of the file. */
  name: string;
  begin: (signal: AbortSignal) => Promise<DownloadStream>;
  signal: AbortSignal;
  onProgress: (receivedBytes: number, totalBytes: number | null) => void;
}

/**
 * Saves a download that needs a key, which a plain link cannot send and an address must not contain. Writes each piece to the
 * disk where the browser allows it; elsewhere collects them in memory, up to {@link MAX_MEMORY_BYTES}. Must be called in
 * answer to a click.
 *
 * @returns false if the user closed the browser's dialog
 */
export async function saveDownload(options: SaveOptions): Promise<boolean> {
  const picker = (window as { showSaveFilePicker?: SavePicker }).showSaveFilePicker;
  if (picker === undefined) {
    await collect(options);
    return true;
  }
  const file = await picker({ suggestedName: options.name }).catch((error: unknown) => {
    if (error instanceof DOMException && error.name === 'AbortError') return null;
    throw error;
  });
  if (file === null) return false;
  const writable = await file.createWritable();
  try {
    for await (const chunk of received(options)) await writable.write(chunk);
    await writable.close();
  } catch (error) {
    await writable.abort().catch(() => {});
    throw error;
  }
  return true;
}

async function collect(options: SaveOptions): Promise<void> {
  const parts: BlobPart[] = [];
  let bytes = 0;
  for await (const chunk of received(options)) {
    bytes += chunk.length;
    if (bytes > MAX_MEMORY_BYTES) throw tooLarge();
    parts.push(chunk as BlobPart);
  }
  const address = URL.createObjectURL(new Blob(parts));
  const link = document.createElement('a');
  link.href = address;
  link.download = options.name;
  link.click();
  // The browser has the bytes once the download has begun.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

async function* received({ begin, signal, onProgress }: SaveOptions): AsyncGenerator<Uint8Array> {
  const { totalBytes, chunks } = await begin(signal);
  onProgress(0, totalBytes);
  const inMemory = !('showSaveFilePicker' in window);
  if (inMemory && totalBytes !== null && totalBytes > MAX_MEMORY_BYTES) {
    await chunks.return();
    throw tooLarge();
  }
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    onProgress(bytes, totalBytes);
    yield chunk;
  }
}

function tooLarge(): ProductError {
  const message = `This browser can only keep downloads up to ${bytesText(MAX_MEMORY_BYTES)} in memory. Use the command below, or a browser that can save to the disk, such as Chrome or Edge.`;
  return new ProductError('invalid_request', message);
}
