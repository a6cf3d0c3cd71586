import { appendFileSync, readFileSync } from 'node:fs';
import { afterAll, expect } from 'vitest';

// Records the processor time of each test file with its child processes, for `npm test`, which prints it. /proc counts in hundredths.

const TICKS_PER_SECOND = 100;
/** Fields of /proc/self/stat, after the name in brackets: user time of the process, and of its children that have ended. */
const [OWN, OF_CHILDREN] = [11, 13];

const record = process.env.TEST_TIMES_FILE;
if (record !== undefined) {
  const before = userSeconds();
  // The hook that is registered first runs last.
  afterAll(() => {
    const file = expect.getState().testPath;
    appendFileSync(record, `${JSON.stringify({ file, seconds: userSeconds() - before })}\n`);
  });
}

function userSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[OWN]) + Number(fields[OF_CHILDREN])) / TICKS_PER_SECOND;
}
