import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { KeyId } from '@lorasmith/contracts';
import { afterAll, expect, test } from 'vitest';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import type { DatasetSummary } from '../src/datasets/dataset-checker.js';
import { type CheckOptions, RowChecks } from '../src/datasets/row-checks.js';

// Rows that are checked in real threads with the compiled package: run `npx tsc -b` before.

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const [ONE, OTHER] = ['key_1', 'key_2'] as unknown as [KeyId, KeyId];
const LIMITS = { maxBytes: 2 ** 30, maxLineBytes: 2 ** 20, maxRows: 10_000_000 };
const PIECE = Buffer.from('{"text":"a"}\n'.repeat(5_000));

const checks = new RowChecks(fileURLToPath(new URL('../dist/datasets/check-thread.js', import.meta.url)));
afterAll(() => checks.close());

async function* textOf(...chunks: (string | Buffer)[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

interface Outcome {
  rows: string;
  summary: DatasetSummary;
}

async function checked(content: AsyncIterable<Buffer>, options: Partial<CheckOptions> = {}): Promise<Outcome> {
  const { signal } = new AbortController();
  const checking = checks.check(content, { limits: LIMITS, columns: undefined, key: ONE, signal, ...options });
  const rows: Buffer[] = [];
  for (;;) {
    const next = await checking.next();
    if (next.done) return { rows: Buffer.concat(rows).toString(), summary: next.value };
    rows.push(next.value);
  }
}

test('rows arrive as they are stored, whatever the pieces', async () => {
  const csv = 'prompt,completion\none,1\n\ntwo,"2\n3"\n';
  const { rows, summary } = await checked(textOf(...csv));
  expect(rows).toBe('\n{"prompt":"one","completion":"1"}\n\n{"prompt":"two","completion":"2\\n3"}\n');
  expect(summary).toMatchObject({ format: 'prompt_completion', rows: 2 });
  const text = `${'{"text":"é"}\n'.repeat(20_000)}{"text":"end"}`;
  expect((await checked(textOf(text))).rows).toBe(text);
});

test('an upload without an end keeps none of another key waiting', async () => {
  let sent = 0;
  let isOver = false;
  async function* endless() {
    while (!isOver) {
      sent++;
      yield PIECE;
    }
  }
  const long = Array.from({ length: 16 }, () => checked(endless()));
  await expect.poll(() => sent).toBeGreaterThan(32);
  for (let upload = 0; upload < 10; upload++) {
    const { summary } = await checked(textOf('{"text":"a"}\n'), { key: OTHER });
    expect(summary.rows).toBe(1);
  }
  isOver = true;
  for (const { summary } of await Promise.all(long)) expect(summary.rows).toBeGreaterThan(0);
});

test('a sender that leaves ends its check', async () => {
  const leaving = new AbortController();
  let hasEnded = false;
  async function* endless() {
    try {
      for (;;) yield PIECE;
    } finally {
      hasEnded = true;
    }
  }
  const check = checked(endless(), { signal: leaving.signal });
  setImmediate(() => leaving.abort(new Error('left')));
  await Promise.all([expect(check).rejects.toThrow('left'), once(leaving.signal, 'abort')]);
  expect(hasEnded).toBe(true);
  expect((await checked(textOf('{"text":"a"}\n'))).summary.rows).toBe(1);
});

function heldBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

test.runIf(HAS_ALL_CASES)('the rows of an upload do not stay in memory', async () => {
  const PIECES = 450;
  const { signal } = new AbortController();
  async function* many() {
    for (let piece = 0; piece < PIECES; piece++) yield PIECE;
  }
  const checking = checks.check(many(), { limits: LIMITS, columns: undefined, key: ONE, signal });
  let pieces = 0;
  let most = 0;
  // Other files of this process have left buffers.
  const before = heldBytes();
  for (let next = await checking.next(); !next.done; next = await checking.next()) {
    pieces++;
    if (pieces % 50 !== 0) continue;
    most = Math.max(most, heldBytes() - before);
  }
  expect(pieces).toBe(PIECES);
  // About a hundred are on their way to the thread and back.
  expect(most).toBeLessThan((PIECES / 2) * PIECE.length);
});

test.each([
  ['too many rows', { ...LIMITS, maxRows: 10 }, '{"text":"a"}\n', 'The file has more than 10 rows, the limit.'],
  ['too many faults', LIMITS, 'x\n', /./],
])('after %s nothing more is read', async (_name, limits, line, message) => {
  async function* endless() {
    for (;;) yield Buffer.alloc(2 ** 16, line);
  }
  const refused = checked(endless(), { limits });
  await expect(refused).rejects.toMatchObject({ code: 'invalid_dataset' });
  const { details } = (await refused.catch((error: unknown) => error)) as { details: { message: string }[] };
  expect(details.at(-1)!.message).toMatch(message);
});
