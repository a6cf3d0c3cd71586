import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { MergeProgram } from '../src/merging/run-merge-process.js';

/** The real merge process, as `main.ts` starts it. Node runs no TypeScript, so it is the built one. */
export function mergeProgram(): MergeProgram {
  const file = fileURLToPath(new URL('../dist/merging/merge-child-main.js', import.meta.url));
  if (!existsSync(file)) throw new Error(`${file} is not built: run "pnpm build" first`);
  return { file, environment: { PATH: process.env.PATH, TF_CPP_MIN_LOG_LEVEL: '2', CUDA_VISIBLE_DEVICES: '-1' } };
}

/** A program that stands in for the merge process where it must fail. */
export function faultyProgram(name: 'crash' | 'hang'): MergeProgram {
  const file = fileURLToPath(new URL(`fixtures/merge-${name}.mjs`, import.meta.url));
  return { file, environment: { PATH: process.env.PATH } };
}
