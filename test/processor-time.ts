import { appendFileSync, readFileSync } from 'node:fs';
import { afterAll, expect } from 'vitest';

// Records the processor time of each test file with its child processes, for `npm test`, which prints it. /proc counts in hundredths.

const TICKS_PER_SECOND = 100;
/** Fields of /proc/self/stat, after the name in brackets: user time of the process, and of its children that have ended. */
const OWN = 11;
const OF_CHILDREN = 13;

const record = process.env.TEST_TIMES_FILE;
if (record !== undefined) {
  const before = userSeconds();
  // The hook that is registered first runs last.
  afterAll(() => {
    const file = expect.getState().testPath;
    const after = userSeconds();
    const line = { file, own: after.own - before.own, ofChildren: after.ofChildren - before.ofChildren };
    appendFileSync(record, `${JSON.stringify(line)}\n`);
  });
}

function userSeconds(): { own: number; ofChildren: number } {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const secondsOf = (field: number) => Number(fields[field]) / TICKS_PER_SECOND;
  return { own: secondsOf(OWN), ofChildren: secondsOf(OF_CHILDREN) };
}
