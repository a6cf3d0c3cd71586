// Test equipment, loaded into a program with `node --import`: the program receives a signal at one exact file operation.
//
// The plan is a JSON file named by FAULT_PLAN_FILE, read again at every operation, so that one running program can be struck
// more than once: {"program", "call", "when", "path", "skip", "signal", "isRepeated", "struck"}. `struck` is a file that is
// made just before the signal is sent; once it exists the plan is over, also for every other program, unless it is repeated.
import fs from 'node:fs';
import fsp from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const planFile = process.env.FAULT_PLAN_FILE;
const program = process.argv[1] ?? '';
const { readFileSync, openSync, closeSync } = fs;
let skipped = 0;

/** @returns {{ program: string, call: string, when: string, path: string, skip: number, signal: NodeJS.Signals, isRepeated: boolean, struck: string } | null} */
function currentPlan() {
  try {
    return JSON.parse(readFileSync(/** @type {string} */ (planFile), 'utf8'));
  } catch {
    // There is no plan now.
    return null;
  }
}

/** @param {'before' | 'after'} when @param {string} call @param {unknown} file */
function pass(when, call, file) {
  const plan = currentPlan();
  if (plan === null || plan.call !== call || plan.when !== when) return;
  if (!program.endsWith(plan.program) || !new RegExp(plan.path).test(String(file))) return;
  if (skipped++ < plan.skip) return;
  try {
    closeSync(openSync(plan.struck, plan.isRepeated ? 'w' : 'wx'));
  } catch {
    // It has struck already.
    return;
  }
  process.kill(process.pid, plan.signal);
}

/** @param {fsp.FileHandle} handle @param {unknown} file */
function watchHandle(handle, file) {
  for (const call of /** @type {const} */ (['write', 'sync'])) {
    const original = /** @type {(...args: unknown[]) => Promise<unknown>} */ (handle[call].bind(handle));
    Object.assign(handle, {
      [call]: async (/** @type {unknown[]} */ ...args) => {
        pass('before', call, file);
        const result = await original(...args);
        pass('after', call, file);
        return result;
      },
    });
  }
  return handle;
}

if (planFile !== undefined && isMainThread) {
  const { open, rename } = fsp;
  Object.assign(fsp, {
    open: async (/** @type {Parameters<typeof open>} */ ...args) => {
      pass('before', 'open', args[0]);
      const handle = watchHandle(await open(...args), args[0]);
      pass('after', 'open', args[0]);
      return handle;
    },
    rename: async (/** @type {string} */ from, /** @type {string} */ to) => {
      pass('before', 'rename', to);
      await rename(from, to);
      pass('after', 'rename', to);
    },
  });
  // Streams write through these functions, which receive only the file descriptor.
  const { open: openCallback, write: writeCallback } = fs;
  /** @type {Map<number, unknown>} */
  const files = new Map();
  Object.assign(fs, {
    open: (/** @type {unknown} */ file, /** @type {unknown[]} */ ...rest) => {
      const done = /** @type {(error: Error | null, descriptor: number) => void} */ (rest.pop());
      const opened = (/** @type {Error | null} */ error, /** @type {number} */ descriptor) => {
        if (error === null) files.set(descriptor, file);
        pass('after', 'open', file);
        done(error, descriptor);
      };
      return Reflect.apply(openCallback, fs, [file, ...rest, opened]);
    },
    write: (/** @type {number} */ descriptor, /** @type {unknown[]} */ ...rest) => {
      const done = /** @type {(...result: unknown[]) => void} */ (rest.pop());
      pass('before', 'write', files.get(descriptor));
      const written = (/** @type {unknown[]} */ ...result) => {
        pass('after', 'write', files.get(descriptor));
        done(...result);
      };
      return Reflect.apply(writeCallback, fs, [descriptor, ...rest, written]);
    },
  });
  syncBuiltinESMExports();
  // Before the program itself starts.
  pass('after', 'start', program);
}
