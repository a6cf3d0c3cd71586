import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ChildProgram } from '@lorasmith/child-processes';

/** The real merge process, as `main.ts` starts it. */
export function mergeProgram(): ChildProgram {
  return builtProgram('merging/merge-child-main.js');
}

/** The real import process. */
export function importProgram(): ChildProgram {
  return builtProgram('importing/import-child-main.js');
}

/** The compiled program: Node cannot run TypeScript. */
function builtProgram(name: string): ChildProgram {
  const file = fileURLToPath(new URL(`../dist/${name}`, import.meta.url));
  if (!existsSync(file)) throw new Error(`${file} is not built: run "pnpm build" first`);
  return { file, environment: { PATH: process.env.PATH } };
}

/** A program that fails, in place of the merge process. */
export function faultyProgram(name: 'crash' | 'hang'): ChildProgram {
  const file = fileURLToPath(new URL(`fixtures/merge-${name}.mjs`, import.meta.url));
  return { file, environment: { PATH: process.env.PATH } };
}
