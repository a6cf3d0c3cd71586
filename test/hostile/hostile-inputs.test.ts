import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HAS_ALL_CASES } from '../usual-cases.js';
import { outcomeOf } from './ask.js';
import type { HostileCase, HostileTable } from './hostile-case.js';
import { type HostileStack, stagings, startHostileStack, treeOutsideData } from './hostile-stack.js';
import { adapterTars } from './tables/adapter-tars.js';
import { brokenHttp, slowSenders } from './tables/broken-http.js';
import { comparisons } from './tables/comparisons.js';
import { datasetUploads } from './tables/dataset-uploads.js';
import { deliveries } from './tables/deliveries.js';
import { jsonBodies } from './tables/json-bodies.js';
import { modelFolders } from './tables/model-folders.js';
import { modelPulls } from './tables/model-pulls.js';
import { openaiImports } from './tables/openai-imports.js';
import { openaiRequests } from './tables/openai-requests.js';
import { pathsAndIds } from './tables/paths-and-ids.js';
import { queriesAndHeaders } from './tables/queries-and-headers.js';
import { sweeps } from './tables/sweeps.js';
import { textRequests } from './tables/text-requests.js';
import { weightFiles } from './tables/weight-files.js';

// Sends all hostile inputs of the tables to the real api, registry and Redis: while there are no API keys, with a key, and
// without the key. Each input must have exactly its expected outcome. None may cause a 5xx, take long, or write outside the
// data folder.

const OF_THE_SERVICES: HostileTable[] = [
  pathsAndIds,
  queriesAndHeaders,
  jsonBodies,
  sweeps,
  datasetUploads,
  brokenHttp,
  slowSenders,
  adapterTars,
  modelFolders,
  modelPulls,
  openaiImports,
  deliveries,
  comparisons,
  openaiRequests,
  textRequests,
];
const TABLES = [...OF_THE_SERVICES, weightFiles];
const COUNT = TABLES.reduce((sum, { cases }) => sum + cases.length, 0);

/** The time limit of an input. On an idle machine none takes more than 2 s (the slowest are printed). A busy machine may be twenty times slower. */
const LIMIT_MS = 45_000;

/** An answer of 5xx, alone or as one of several. */
const SERVER_FAULT = /(^|\+ )5\d\d/;

/** Malformed requests, and those to unknown routes, are refused before the API key is checked. */
const BEFORE_ACCESS = /^(closed|(400|417|431) invalid_request|404 not_found)$/;

/** The tests send more calls per minute than the default allows. */
const NO_LIMIT = { KEY_REQUESTS_PER_MINUTE: '1000000' };

const times: { name: string; ms: number }[] = [];

/** The cases of a table whose outcome is another than the expected one, as text. */
async function wrongOutcomes(
  stack: HostileStack,
  cases: readonly HostileCase[],
  isRight = (found: string, one: HostileCase) => found === one.outcome,
): Promise<string[]> {
  const wrong: string[] = [];
  for (const one of cases) {
    const begin = performance.now();
    const found = await one.send(stack).catch((error: unknown) => `no outcome: ${error}`);
    const ms = performance.now() - begin;
    times.push({ name: one.name, ms });
    if (!isRight(found, one) || SERVER_FAULT.test(found)) wrong.push(`${one.name}: ${found} instead of ${one.outcome}`);
    if (ms > LIMIT_MS) wrong.push(`${one.name}: took ${Math.round(ms)} ms`);
  }
  return wrong;
}

/**
 * Number of inputs of each table that `npm test` sends in the other roles. It sends all with a key; continuous integration sends
 * them all in each role.
 */
const SAMPLE = 5;

/** All cases, or a few from the complete table, the first and the last among them. */
function sampleOf({ cases }: HostileTable): HostileCase[] {
  if (HAS_ALL_CASES || cases.length <= SAMPLE) return cases;
  return Array.from({ length: SAMPLE }, (_, i) => cases[Math.round((i * (cases.length - 1)) / (SAMPLE - 1))]!);
}

/** The time limit of a whole table. */
const TAKES_MS = 1_800_000;

describe.each([
  { keys: 'without keys', role: null },
  { keys: 'with a key', role: 'train' },
] as const)('$keys:', ({ role }) => {
  let stack: HostileStack;
  let treeBefore: Record<string, string>;

  beforeAll(async () => {
    stack = await startHostileStack(NO_LIMIT, role);
    treeBefore = await treeOutsideData(stack);
  });

  afterAll(async () => {
    await stack?.stop();
  });

  test.each(TABLES)(
    '$kind have their outcomes',
    async (table) => {
      expect(await wrongOutcomes(stack, role === null ? sampleOf(table) : table.cases)).toEqual([]);
    },
    TAKES_MS,
  );

  if (role !== null) {
    // The slow senders test only whether other requests are answered meanwhile.
    test.each(OF_THE_SERVICES.filter((table) => table !== slowSenders))(
      '$kind are refused without the key',
      async (table) => {
        const isRight = (found: string, { outcome, open = false }: HostileCase) =>
          found.startsWith('401 ') || (found === outcome && (open || BEFORE_ACCESS.test(found)));
        expect(await wrongOutcomes({ ...stack, token: null }, sampleOf(table), isRight)).toEqual([]);
      },
      TAKES_MS,
    );
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
