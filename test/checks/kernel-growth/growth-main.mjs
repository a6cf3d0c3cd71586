// Runs the cases at both sizes on the counting card, and sends the work of each kernel to the parent process.
// node growth-main.mjs WORK_FILE [PARTS OF NAMES…]
import { closeSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs';
import * as tensor from '../../../packages/tensor/dist/index.js';
import { growthCases, WITHOUT_SIZE } from './growth-cases.mjs';

const [, , workFile = '', ...parts] = process.argv;
const { cuda } = tensor.engine;
if (cuda === null) throw new Error(`the engine is ${tensor.engine.kind}, not cuda`);
writeFileSync(workFile, '');
const file = openSync(workFile, 'r');
let read = 0;

/** @param {import('../kernel-growth.mjs').GrowthCase} one @param {number} size @returns {Record<string, number>} by kernel */
function workOf(one, size) {
  tensor.scope(() => one.run(size));
  cuda?.synchronize();
  const buffer = Buffer.alloc(fstatSync(file).size - read);
  readSync(file, buffer, 0, buffer.length, read);
  read += buffer.length;
  /** @type {Record<string, number>} */
  const works = {};
  for (const line of buffer.toString().split('\n')) {
    const [kernel = '', work] = line.split(' ');
    if (kernel !== '') works[kernel] = (works[kernel] ?? 0) + Number(work);
  }
  return works;
}

const cases = growthCases().filter(({ name }) => parts.length === 0 || parts.some((part) => name.includes(part)));
const results = cases.map((one) => {
  const { name, doubled, size } = one;
  return {
    name,
    doubled,
    size,
    squares: one.squares?.source ?? null,
    once: workOf(one, size),
    twice: workOf(one, 2 * size),
  };
});
closeSync(file);
process.send?.({ kernels: cuda.loadKernels().map(({ name }) => name), withoutSize: WITHOUT_SIZE, results });
