// Word problems in the form of GSM8K (arXiv:2110.14168): a question, and an answer in steps that ends in `#### 42`.
//
//     node generate.mjs            writes problems.jsonl

import { writeFileSync } from 'node:fs';
import path from 'node:path';

const NAMES = 'Amir Bea Carlos Dana Emil Fatima Goran Hanna Ivo Julia'.split(' ');
const THINGS = 'pears books stamps marbles tickets shells candles pencils'.split(' ');

/** The kinds of problems, from a name, a thing and three numbers. */
const KINDS = [
  (name, thing, a, b, c) => [
    `${name} has ${a} boxes with ${b} ${thing} each. ${c} of the ${thing} are given away. How many ${thing} are left?`,
    `There are ${a} * ${b} = ${a * b} ${thing}.\nAfter that ${a * b} - ${c} = ${a * b - c} are left.\n#### ${a * b - c}`,
  ],
  (name, thing, a, b, c) => [
    `${name} buys ${a} ${thing} on Monday and ${b} more on Tuesday. Each costs ${c} coins. How many coins does ${name} pay?`,
    `${name} buys ${a} + ${b} = ${a + b} ${thing}.\nThey cost ${a + b} * ${c} = ${(a + b) * c} coins.\n#### ${(a + b) * c}`,
  ],
  (name, thing, a, b, c) => [
    `${name} sells ${b} ${thing} a day for ${a} days, and then ${c} more. How many ${thing} does ${name} sell in all?`,
    `In ${a} days ${name} sells ${a} * ${b} = ${a * b} ${thing}.\nIn all they are ${a * b} + ${c} = ${a * b + c}.\n#### ${a * b + c}`,
  ],
];

/** Row `i`: the same number gives the same row. */
function rowAt(i) {
  const [name, thing] = [NAMES[(i * 7) % NAMES.length], THINGS[(i * 3 + Math.floor(i / 10)) % THINGS.length]];
  const [a, b, c] = [3 + ((i * 5) % 7), 4 + ((i * 11) % 13), 2 + ((i * 3) % 9)];
  const [question, answer] = KINDS[i % KINDS.length](name, thing, a, b, c);
  return {
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  };
}

const rows = Array.from({ length: 160 }, (_, i) => `${JSON.stringify(rowAt(i))}\n`);
writeFileSync(path.join(import.meta.dirname, 'problems.jsonl'), rows.join(''));
