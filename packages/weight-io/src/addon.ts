import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';

/** What native/module.cc exports. */
interface Addon {
  allocate(bytes: number): ArrayBuffer;
  hashFile(fd: number): Promise<string>;
}

const FILE = fileURLToPath(new URL('../native/build/weight-io.node', import.meta.url));

export const addon = createRequire(import.meta.url)(FILE) as Addon;

/** The addon's error as Node's own calls throw it: with `code`, and a message that has it. Other errors are as they are. */
export function systemError(error: unknown): unknown {
  const { errno, syscall } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || errno === undefined) return error;
  const code = getSystemErrorName(errno);
  const text = getSystemErrorMap().get(errno)?.[1] ?? 'unknown error';
  return Object.assign(new Error(`${code}: ${text}, ${syscall}`), { errno, code, syscall });
}
