import path from 'node:path';
import { parseArgs } from 'node:util';

export const ROOT = path.resolve(import.meta.dirname ?? '.', '../..');

const readOptions = () =>
  parseArgs({
    options: {
      rows: { type: 'string', default: path.join(ROOT, 'examples/dates/train.jsonl') },
      count: { type: 'string', default: '64' },
      model: { type: 'string', default: path.join(ROOT, 'models/SmolLM2-135M-Instruct') },
      'peer-python': { type: 'string' },
      'large-model': { type: 'string' },
      before: { type: 'string' },
      shape: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      out: { type: 'string' },
    },
  });

/** The options of `npm run bench`, which test/bench/README.md explains. */
export const { values: options } = withoutStack(readOptions);

/** @template Result @param {() => Result} read @returns {Result} its result; a wrong option ends the process with one line */
function withoutStack(read) {
  try {
    return read();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}. test/bench/README.md lists the options.`);
    process.exit(2);
  }
}

/** The checkouts that are measured by turns: this one, and that of --before. @returns {{ before?: string, now: string }} */
export function checkouts() {
  return { ...(options.before === undefined ? {} : { before: path.resolve(options.before) }), now: ROOT };
}

export const { quick } = options;
/** The folder of the model that is measured. */
export const model = path.resolve(options.model);
/** Rows that are read. */
export const count = quick ? 16 : Number(options.count);
export const repeats = quick ? 2 : 4;
