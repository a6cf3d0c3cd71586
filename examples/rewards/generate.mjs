// Questions for a date, whose answers a grader rewards for the form 2019-05-03.
//
//     node generate.mjs            writes prompts.jsonl, and heldout.jsonl

import { writeFileSync } from 'node:fs';
import path from 'node:path';

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const EVENTS = 'concert meeting exam wedding match lecture fair launch storm election'.split(' ');

/** Row `i`: the same number gives the same row. */
function rowAt(i) {
  const [year, month, day] = [1950 + ((i * 37) % 70), (i * 5) % 12, 1 + ((i * 11) % 28)];
  const event = EVENTS[i % EVENTS.length];
  const iso = `${year}-${String(month + 1).padStart(2, '0')}-${String(day).padStart(2, '0')}`;
  const content = `The ${event} took place on ${day} ${MONTHS[month]} ${year}. Write its date as YYYY-MM-DD.`;
  return { prompt: [{ role: 'user', content }], reference: iso };
}

const rows = Array.from({ length: 60 }, (_, i) => `${JSON.stringify(rowAt(i))}\n`);
writeFileSync(path.join(import.meta.dirname, 'prompts.jsonl'), rows.slice(0, 48).join(''));
writeFileSync(path.join(import.meta.dirname, 'heldout.jsonl'), rows.slice(48).join(''));
