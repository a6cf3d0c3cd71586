import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { usualCases } from '../usual-cases.js';

// The fuzzer of the readers with its seeds alone, which it tries before it mutates them: it reaches each reader, and finds nothing.

const PROGRAM = fileURLToPath(new URL('../checks/fuzz/readers/fuzz-reader.mjs', import.meta.url));
const CORPUS = fileURLToPath(new URL('corpus', import.meta.url));

let finds: string;
beforeAll(async () => {
  finds = await mkdtemp(path.join(tmpdir(), 'lorasmith-finds-'));
});
afterAll(() => rm(finds, { recursive: true, force: true }));

test.each(usualCases(readdirSync(CORPUS).sort(), 4))('the seeds of %s', async (reader) => {
  const args = [PROGRAM, reader, '0', '1', path.join(CORPUS, reader), finds];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(stdout).toMatch(new RegExp(`^${reader}: \\d+ inputs in 0 s, .* 0 findings\\n$`));
});
