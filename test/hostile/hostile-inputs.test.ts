import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { outcomeOf } from './ask.js';
import type { HostileCase, HostileTable } from './hostile-case.js';
import { type HostileStack, stagings, startHostileStack, treeOutsideData } from './hostile-stack.js';
import { adapterTars } from './tables/adapter-tars.js';
import { brokenHttp, slowSenders } from './tables/broken-http.js';
import { datasetUploads } from './tables/dataset-uploads.js';
import { jsonBodies } from './tables/json-bodies.js';
import { modelFolders } from './tables/model-folders.js';
import { modelPulls } from './tables/model-pulls.js';
import { openaiRequests } from './tables/openai-requests.js';
import { pathsAndIds } from './tables/paths-and-ids.js';
import { queriesAndHeaders } from './tables/queries-and-headers.js';
import { textRequests } from './tables/text-requests.js';
import { weightFiles } from './tables/weight-files.js';

// Sends all hostile inputs of the tables to the real api, registry and Redis: while there are no API keys, with a key, and
// without the key. Each input must have exactly its expected outcome. None may cause a 5xx, take long, or write outside the
// data folder.

const OF_THE_SERVICES: HostileTable[] = [
  pathsAndIds,
  queriesAndHeaders,
  jsonBodies,
  datasetUploads,
  brokenHttp,
  slowSenders,
  adapterTars,
  modelFolders,
  modelPulls,
  openaiRequests,
  textRequests,
];
const TABLES = [...OF_THE_SERVICES, weightFiles];
const COUNT = TABLES.reduce((sum, { cases }) => sum + cases.length, 0);

/** On an idle machine no input takes more than 2 s (the slowest are printed). A busy machine may be twenty times slower. */
const LIMIT_MS = 45_000;

/** Malformed requests, and those to unknown routes, are refused before the API key is checked. */
const BEFORE_ACCESS = /^(closed|(400|417|431) invalid_request|404 not_found)$/;

/** The tests send more calls per minute than the default allows. */
const NO_LIMIT = { KEY_REQUESTS_PER_MINUTE: '1000000' };

const times: { name: string; ms: number }[] = [];

async function outcomeInTime(stack: HostileStack, one: HostileCase): Promise<string> {
  const { name, send } = one;
  const begin = performance.now();
  const found = await send(stack);
  const ms = performance.now() - begin;
  times.push({ name, ms });
  expect(found).not.toMatch(/(^|\+ )5\d\d/);
  expect(ms).toBeLessThan(LIMIT_MS);
  return found;
}

const named = (cases: HostileCase[]) => cases.map((one) => [`${one.name} → ${one.outcome}`, one] as const);

describe.each([
  { keys: 'without keys', role: null, tables: TABLES },
  { keys: 'with a key', role: 'train', tables: OF_THE_SERVICES },
] as const)('$keys:', ({ role, tables }) => {
  // What is in a tar has nothing to do with keys, and each takes a process.
  const withKey = role === null ? tables : tables.filter((table) => table !== adapterTars);
  let stack: HostileStack;
  let treeBefore: Record<string, string>;

  beforeAll(async () => {
    stack = await startHostileStack(NO_LIMIT, role);
    treeBefore = await treeOutsideData(stack);
  });

  afterAll(async () => {
    await stack?.stop();
  });

  describe.each(withKey)('$kind:', ({ cases }) => {
    test.each(named(cases))('%s', async (_, one) => {
      expect(await outcomeInTime(stack, one)).toBe(one.outcome);
    });
  });

  if (role !== null) {
    // The slow senders test only whether other requests are answered meanwhile.
    describe.each(tables.filter((table) => table !== slowSenders))('without the key: $kind:', ({ cases }) => {
      test.each(named(cases))('%s', async (_, one) => {
        const found = await outcomeInTime({ ...stack, token: null }, one);
        if (found === one.outcome && (one.open || BEFORE_ACCESS.test(found))) return;
        expect(found).toMatch(/^401 /);
      });
    });
  }

  describe('after all inputs', () => {
    test('the services still run and are ready', async () => {
      expect(stack.crashed()).toBeNull();
      expect(await outcomeOf(stack, 'GET', '/ready')).toBe('200');
    });

    test('nothing outside the data folder was added, removed or changed', async () => {
      expect(await treeOutsideData(stack)).toEqual(treeBefore);
    });

    test('no incomplete files are left', async () => {
      await expect.poll(() => stagings(stack)).toEqual([]);
    });
  });
});

test('the number of inputs is large enough', () => {
  const slowest = times.sort((a, b) => b.ms - a.ms).slice(0, 3);
  const shown = slowest.map(({ name, ms }) => `${name} (${Math.round(ms)} ms)`).join(', ');
  console.log(`${COUNT} hostile inputs, sent ${times.length} times; the slowest: ${shown}`);
  expect(new Set(TABLES.flatMap(({ kind, cases }) => cases.map(({ name }) => `${kind} ${name}`))).size).toBe(COUNT);
  expect(COUNT).toBeGreaterThan(300);
});
