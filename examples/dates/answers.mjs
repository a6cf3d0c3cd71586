// Asks a model for the held-out rows and counts the answers that are exactly right.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';

const GENERATE_PROGRAM = path.join(ROOT_DIR, 'packages/training/dist/generate-main.js');

/** An ISO date is ten tokens and the end of the turn. A longer answer is cut here; it is wrong anyway. */
const MAX_NEW_TOKENS = 16;

/** @typedef {{ messages: { role: string, content: string }[] }} Row */

/** @param {string} file JSONL @returns {Promise<Row[]>} */
export async function readRows(file) {
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line));
}

/** @param {Row} row @returns {string} what the user writes in it */
export const questionOf = (row) => row.messages.at(-2)?.content ?? '';

/** @param {Row} row @returns {string} */
export const rightAnswerOf = (row) => row.messages.at(-1)?.content ?? '';

/**
 * Greedy answers, in a process of their own.
 *
 * @param {{ model: string, rows: Row[], folder: string, onTick?: (seconds: number) => void }} options `model`: a Hugging
 *   Face folder; `folder`: where the prompts and answers are written
 * @returns {Promise<string[]>} one answer per row
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError}
 */
export async function answersOf({ model, rows, folder, onTick }) {
  await mkdir(folder, { recursive: true });
  const [prompts, out] = [path.join(folder, 'prompts.jsonl'), path.join(folder, 'answers.jsonl')];
  const asked = rows.map(({ messages }) => `${JSON.stringify({ messages: messages.slice(0, -1) })}\n`);
  await writeFile(prompts, asked.join(''));
  const args = ['--model', model, '--prompts', prompts, '--max-new-tokens', String(MAX_NEW_TOKENS), '--out', out];
  await runCommand(process.execPath, [GENERATE_PROGRAM, ...args], {
    env: { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env },
    ...(onTick ? { onTick } : {}),
  });
  const answers = (await readFile(out, 'utf8')).trimEnd().split('\n');
  return answers.map((line) => JSON.parse(line).text.trim());
}

/** @param {Row[]} rows @param {string[]} answers @returns {number} how many are exactly right */
export function countRight(rows, answers) {
  return rows.filter((row, index) => answers[index] === rightAnswerOf(row)).length;
}
