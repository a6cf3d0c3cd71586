import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

// The specifiers are computed because the files are JavaScript without declarations.
const scripts = (name: string) => import(new URL(`../checks/gpu-check/${name}`, import.meta.url).href);
const { runPart } = await scripts('run-part.mjs');
const { Report } = await scripts('report.mjs');
const { textRows, parseSizes } = await scripts('text-rows.mjs');

const RESULT = new URL('../checks/gpu-check/run-part.mjs', import.meta.url).href;

let out: string;
beforeEach(async () => {
  out = await mkdtemp(path.join(tmpdir(), 'gpu-check-'));
  for (const folder of ['logs', 'parts']) await mkdir(path.join(out, folder));
});
afterEach(() => rm(out, { recursive: true }));

/** Runs a part whose process writes a first result and then executes `rest`. */
async function run(rest: string, limitMs = 20_000) {
  const program = `import { writePartResult } from '${RESULT}';\nwritePartResult({ lines: ['first'] });\nconsole.log('begun');\n${rest}`;
  const command = { program: process.execPath, args: ['--input-type=module', '-e', program], env: process.env };
  return await runPart({ name: 'part', out, limitMs, command });
}

test('a part that ends has its last result and its log', async () => {
  const end = await run("writePartResult({ lines: ['first', 'second'] });");
  expect(end).toMatchObject({ ending: 'done', result: { lines: ['first', 'second'] }, log: 'begun\n' });
  expect(await readFile(path.join(out, 'logs/part.log'), 'utf8')).toBe('begun\n');
});

test.each([
  ['its verdict', 'process.exitCode = 1;', 'failed'],
  ['another exit code', 'process.exit(3);', 'crashed'],
  ['a signal', "process.kill(process.pid, 'SIGKILL');", 'crashed'],
])('a part that ends badly by %s keeps what it wrote', async (_, rest, ending) => {
  expect(await run(rest)).toMatchObject({ ending, result: { lines: ['first'] } });
});

test('a part that hangs is ended with all its processes, and keeps what it wrote', async () => {
  const marker = path.join(out, 'alive');
  const child = `setTimeout(() => require('node:fs').writeFileSync(${JSON.stringify(marker)}, ''), 4000)`;
  const rest = `
    import { spawn } from 'node:child_process';
    spawn(process.execPath, ['-e', ${JSON.stringify(child)}], { stdio: 'ignore' });
    process.on('SIGTERM', () => process.exit(0));
    setInterval(() => {}, 1000);`;
  const end = await run(rest, 1500);
  expect(end).toMatchObject({ ending: 'out of time', result: { lines: ['first'] } });
  await new Promise((resolve) => setTimeout(resolve, 4000));
  expect(existsSync(marker)).toBe(false);
});

test('a program that is not there is an end, too', async () => {
  const command = { program: path.join(out, 'missing'), args: [], env: process.env };
  const end = await runPart({ name: 'part', out, limitMs: 5000, command });
  expect(end).toMatchObject({ ending: 'crashed', result: null });
  expect(end.how).toContain('could not be started');
});

test('the report is complete after each part; a bad end shows the log', async () => {
  const report = new Report(out, { host: 'a host' });
  const part = { name: 'one', title: 'First', ending: 'done', how: '', seconds: 1, lines: ['fine'], result: { x: 1 } };
  report.add(part);
  const results = async () => JSON.parse(await readFile(path.join(out, 'results.json'), 'utf8'));
  expect(await results()).toEqual({ host: 'a host', summary: [], parts: [part] });
  expect(report.isGood).toBe(true);
  report.add({
    ...part,
    name: 'two',
    title: 'Second',
    ending: 'crashed',
    how: 'exited with 3',
    log: 'a\nlast words\n',
  });
  report.add({ ...part, name: 'three', title: 'Third', ending: 'not run', how: 'the time was over', lines: [] });
  expect(report.isGood).toBe(false);
  const text = await readFile(path.join(out, 'report.md'), 'utf8');
  expect(text).toContain('## First\n\nDone in 1.0 s.\n\nfine\n');
  expect(text).toContain('**crashed** (exited with 3) in 1.0 s.');
  expect(text).toContain('last words');
  expect(text).toContain('Not run: the time was over.');
  report.describe({ card: 'a card' });
  report.summarize(['- one fact', '', '**A sentence.**']);
  expect(await results()).toMatchObject({ card: 'a card', summary: ['- one fact', '', '**A sentence.**'] });
  const summarized = await readFile(path.join(out, 'report.md'), 'utf8');
  expect(summarized).toContain('- card: a card\n\n## Summary\n\n- one fact\n\n**A sentence.**\n\n## First\n');
});

test('rows have at least the tokens of their size, and are the same for every size', () => {
  expect(parseSizes('4x512,pairs:1x8192')).toEqual([
    { kind: 'rows', rows: 4, length: 512 },
    { kind: 'pairs', rows: 1, length: 8192 },
  ]);
  expect(() => parseSizes('4')).toThrow('is not a size');
  const [short, long] = [textRows({ rows: 2, length: 8 }), textRows({ rows: 2, length: 64 })];
  for (const [row, { text }] of short.entries()) {
    expect(text.split(' ')).toHaveLength(9);
    expect(long[row].text.startsWith(text)).toBe(true);
  }
});
