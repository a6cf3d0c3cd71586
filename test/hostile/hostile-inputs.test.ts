import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { outcomeOf } from './ask.js';
import type { HostileTable } from './hostile-case.js';
import { type HostileStack, stagings, startHostileStack, treeOutsideData } from './hostile-stack.js';
import { adapterTars } from './tables/adapter-tars.js';
import { brokenHttp } from './tables/broken-http.js';
import { datasetUploads } from './tables/dataset-uploads.js';
import { jsonBodies } from './tables/json-bodies.js';
import { modelFolders } from './tables/model-folders.js';
import { pathsAndIds } from './tables/paths-and-ids.js';
import { queriesAndHeaders } from './tables/queries-and-headers.js';
import { weightFiles } from './tables/weight-files.js';

// The real api, registry and Redis, as processes of their own, under everything that the tables hold. Each input has the
// one outcome that it must have; none is a 5xx, none takes long, and none leaves a byte outside the data folders.

const TABLES: HostileTable[] = [
  pathsAndIds,
  queriesAndHeaders,
  jsonBodies,
  datasetUploads,
  brokenHttp,
  adapterTars,
  modelFolders,
  weightFiles,
];

/** None takes more than 2 s on an idle machine, which the printed slowest shows; one under load may be twenty times slower. */
const BOUND_MS = 45_000;

let stack: HostileStack;
let treeBefore: Record<string, string>;
const times: { name: string; ms: number }[] = [];

beforeAll(async () => {
  stack = await startHostileStack();
  treeBefore = await treeOutsideData(stack);
}, 120_000);

afterAll(async () => {
  await stack?.stop();
}, 60_000);

describe.each(TABLES)('$kind:', ({ cases }) => {
  test.each(cases.map((one) => [`${one.name} → ${one.outcome}`, one] as const))(
    '%s',
    async (_, { name, outcome, send }) => {
      const begin = performance.now();
      const found = await send(stack);
      const ms = performance.now() - begin;
      times.push({ name, ms });
      expect(found).toBe(outcome);
      expect(found).not.toMatch(/(^|\+ )5\d\d/);
      expect(ms).toBeLessThan(BOUND_MS);
    },
    90_000,
  );
});

describe('after all of it', () => {
  test('the services live and are ready', async () => {
    expect(stack.fallen()).toBeNull();
    expect(await outcomeOf(stack, 'GET', '/ready')).toBe('200');
  });

  test('nothing outside the data folder is new, gone or changed', async () => {
    expect(await treeOutsideData(stack)).toEqual(treeBefore);
  });

  test('nothing half-made is left', async () => {
    await expect.poll(() => stagings(stack), { timeout: 20_000 }).toEqual([]);
  });

  test('there were enough of them', () => {
    const slowest = times.sort((a, b) => b.ms - a.ms).slice(0, 3);
    const shown = slowest.map(({ name, ms }) => `${name} (${Math.round(ms)} ms)`).join(', ');
    console.log(`${times.length} hostile inputs; the slowest: ${shown}`);
    expect(new Set(TABLES.flatMap(({ kind, cases }) => cases.map(({ name }) => `${kind} ${name}`))).size).toBe(
      TABLES.reduce((sum, { cases }) => sum + cases.length, 0),
    );
    expect(TABLES.reduce((sum, { cases }) => sum + cases.length, 0)).toBeGreaterThan(300);
  });
});
