import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = new URL('../', import.meta.url);

/** Words that begin a phrase without a noun: "Of the group" does not say what of the group it is, nor does "What it has". */
const WITHOUT_NOUN =
  'After|As|At|Before|Between|Beyond|By|During|For|From|In|Instead|Into|Like|Of|On|Over|Per|Since|Through|To|Under|Until|With|Within|Without|What|Which|Who|Whose|That|Those|Whether|How|Where';
const BEGINNING = new RegExp(`/\\*\\*\\s*(?:\\*\\s*)?(?:${WITHOUT_NOUN})\\b[^\\n]*`, 'g');

test('every docstring begins with the thing that it describes, and not with a preposition or a question', async () => {
  const { stdout } = await promisify(execFile)('git', ['ls-files', '*.ts', '*.tsx', '*.mjs'], {
    cwd: fileURLToPath(ROOT),
  });
  const found: string[] = [];
  for (const file of stdout.trim().split('\n')) {
    // A file that is deleted, but not yet committed, has no docstrings.
    const text = await readFile(new URL(file, ROOT), 'utf8').catch(() => '');
    for (const { 0: docstring, index } of text.matchAll(BEGINNING)) {
      found.push(`${file}:${text.slice(0, index).split('\n').length}: ${docstring}`);
    }
  }
  expect(found).toEqual([]);
});
