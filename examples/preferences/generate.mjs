// Pairs of answers that ask for a date: the chosen one writes it as 2019-05-03, the rejected one as May 3, 2019.
//
//     node generate.mjs            writes pairs.jsonl and heldout.jsonl

import { writeFileSync } from 'node:fs';
import path from 'node:path';

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const QUESTIONS = [
  (event) => `When was the ${event}?`,
  (event) => `On which day did we hold the ${event}?`,
  (event) => `Give me the date of the ${event}.`,
];
const EVENTS = 'concert meeting exam wedding match lecture fair launch storm election'.split(' ');

/** Row `i`: the same number gives the same row. */
function pairAt(i) {
  const [year, month, day] = [1950 + ((i * 37) % 70), (i * 5) % 12, 1 + ((i * 11) % 28)];
  const event = EVENTS[i % EVENTS.length];
  const iso = `${year}-${String(month + 1).padStart(2, '0')}-${String(day).padStart(2, '0')}`;
  const written = `${MONTHS[month]} ${day}, ${year}`;
  const note = `The ${event} took place on ${day} ${MONTHS[month]} ${year}.`;
  return {
    prompt: [{ role: 'user', content: `${note} ${QUESTIONS[i % QUESTIONS.length](event)}` }],
    chosen: [{ role: 'assistant', content: iso }],
    rejected: [{ role: 'assistant', content: written }],
  };
}

const rows = Array.from({ length: 72 }, (_, i) => `${JSON.stringify(pairAt(i))}\n`);
const write = (name, part) => writeFileSync(path.join(import.meta.dirname, name), part.join(''));
write('pairs.jsonl', rows.slice(0, 60));
write('heldout.jsonl', rows.slice(60));
