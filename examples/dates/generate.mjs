// Writes train.jsonl and heldout.jsonl: dates in words, answered in ISO 8601. The same seed gives the same bytes.
//   node examples/dates/generate.mjs [--seed 1] [--train 600] [--heldout 48] [--out FOLDER]

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DATE_STYLES } from './date-styles.mjs';

// Short, because every row repeats it. Without one, the model's template adds a longer one.
const SYSTEM_PROMPT = 'Write the date in ISO format.';
const FIRST_DAY = Date.UTC(1900, 0, 1);
const LAST_DAY = Date.UTC(2049, 11, 31);
const DAY_MS = 86_400_000;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    train: { type: 'string', default: '600' },
    heldout: { type: 'string', default: '48' },
    out: { type: 'string', default: import.meta.dirname },
  },
});

/** Mulberry32: a generator of numbers in [0, 1) from a 32-bit seed. */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function dateOf(time) {
  const date = new Date(time);
  return {
    iso: date.toISOString().slice(0, 10),
    year: date.getUTCFullYear(),
    month: date.getUTCMonth() + 1,
    day: date.getUTCDate(),
    weekday: date.getUTCDay(),
  };
}

function rowOf(date, style) {
  return {
    messages: [
      { role: 'system', content: SYSTEM_PROMPT },
      { role: 'user', content: style(date) },
      { role: 'assistant', content: date.iso },
    ],
  };
}

const random = randomNumbers(Number(values.seed));
const trainRows = Number(values.train);
const heldoutRows = Number(values.heldout);

// Every date once over both files, so that no held-out date was seen in training in another style.
const dates = new Map();
while (dates.size < trainRows + heldoutRows) {
  const date = dateOf(FIRST_DAY + Math.floor((random() * (LAST_DAY - FIRST_DAY)) / DAY_MS) * DAY_MS);
  dates.set(date.iso, date);
}
// The styles alternate, so each has its share of both files.
const rows = [...dates.values()].map((date, index) => rowOf(date, DATE_STYLES[index % DATE_STYLES.length]));

await mkdir(values.out, { recursive: true });
for (const [name, part] of [
  ['train.jsonl', rows.slice(0, trainRows)],
  ['heldout.jsonl', rows.slice(trainRows)],
]) {
  await writeFile(join(values.out, name), part.map((row) => `${JSON.stringify(row)}\n`).join(''));
}
