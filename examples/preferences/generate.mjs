// Pairs of answers that ask for a date: the chosen one writes it as 2019-05-03, the rejected one as May 3, 2019. And single answers with a
// label: one of each pair, as many wanted as unwanted ones.
//
//     node generate.mjs            writes pairs.jsonl, answers.jsonl, and rows that are held out of both

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

/** One answer of a pair. */
function answerOf({ prompt, chosen, rejected }, i) {
  const label = i % 4 < 2;
  return { prompt, completion: label ? chosen : rejected, label };
}

const pairs = Array.from({ length: 72 }, (_, i) => pairAt(i));
const answers = pairs.map(answerOf);
const write = (name, rows) => {
  const lines = rows.map((row) => `${JSON.stringify(row)}\n`);
  writeFileSync(path.join(import.meta.dirname, name), lines.join(''));
};
write('pairs.jsonl', pairs.slice(0, 60));
write('heldout.jsonl', pairs.slice(60));
write('answers.jsonl', answers.slice(0, 60));
write('heldout-answers.jsonl', answers.slice(60));
