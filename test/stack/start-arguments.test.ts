import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const START = fileURLToPath(new URL('../../scripts/start.mjs', import.meta.url));
const run = (...args: string[]) => spawnSync(process.execPath, [START, ...args], { encoding: 'utf8' });

test('npm start -- --help says what can be set, and starts nothing', () => {
  for (const flag of ['--help', '-h']) {
    const { status, stdout, stderr } = run(flag);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^npm start: .*[\s\S]*API_PORT=8080[\s\S]*docs\/configuration\.md/);
    expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
  }
});

test.each([[['--port', '9000']], [['--api-port=9000']], [['start']], [['-p', '9000']]])(
  'npm start refuses %j before it sets anything up, and says how it is set',
  (args) => {
    const { status, stdout, stderr } = run(...args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/takes no arguments but --help, not "[\s\S]*API_PORT=9000 npm start/);
  },
);
