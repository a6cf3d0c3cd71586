import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { outcomeOf } from './ask.js';
import type { HostileCase, HostileTable } from './hostile-case.js';
import { type HostileStack, stagings, startHostileStack, treeOutsideData } from './hostile-stack.js';
import { adapterTars } from './tables/adapter-tars.js';
import { brokenHttp, slowSenders } from './tables/broken-http.js';
import { datasetUploads } from './tables/dataset-uploads.js';
import { jsonBodies } from './tables/json-bodies.js';
import { modelFolders } from './tables/model-folders.js';
import { pathsAndIds } from './tables/paths-and-ids.js';
import { queriesAndHeaders } from './tables/queries-and-headers.js';
import { weightFiles } from './tables/weight-files.js';

// The real api, registry and Redis, as processes of their own, under everything that the tables hold: without API keys, with
// a key, and without one where there are keys. Each input has the one outcome that it must have; none is a 5xx, none takes
// long, and none leaves a byte outside the data folders.

const OF_THE_SERVICES: HostileTable[] = [
  pathsAndIds,
  queriesAndHeaders,
  jsonBodies,
  datasetUploads,
  brokenHttp,
  slowSenders,
  adapterTars,
  modelFolders,
];
const TABLES = [...OF_THE_SERVICES, weightFiles];
const COUNT = TABLES.reduce((sum, { cases }) => sum + cases.length, 0);

/** None takes more than 2 s on an idle machine, which the printed slowest shows; one under load may be twenty times slower. */
const BOUND_MS = 45_000;

/** What is no request, or for no route, is refused before anybody asks whose it is. */
const BEFORE_ACCESS = /^(closed|(400|417|431) invalid_request|404 not_found)$/;

/** Calls of a key that come as fast as these. */
const NO_LIMIT = { KEY_REQUESTS_PER_MINUTE: '1000000' };

const times: { name: string; ms: number }[] = [];

/**
 * A refused body is read for a moment, then the connection is closed. A sender that still writes may notice that before it
 * has read the answer, and has to send again.
 */
const CLOSED_WHILE_SENDING = ['EPIPE', 'ECONNRESET'];
const MAX_TRIES = 5;

async function sendUntilAnswered(stack: HostileStack, { send }: HostileCase): Promise<string> {
  for (let tries = 1; ; tries++) {
    try {
      return await send(stack);
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (tries === MAX_TRIES || !CLOSED_WHILE_SENDING.includes(code)) throw error;
    }
  }
}

async function outcomeInTime(stack: HostileStack, one: HostileCase): Promise<string> {
  const { name } = one;
  const begin = performance.now();
  const found = await sendUntilAnswered(stack, one);
  const ms = performance.now() - begin;
  times.push({ name, ms });
  expect(found).not.toMatch(/(^|\+ )5\d\d/);
  expect(ms).toBeLessThan(BOUND_MS);
  return found;
}

const named = (cases: HostileCase[]) => cases.map((one) => [`${one.name} → ${one.outcome}`, one] as const);

describe.each([
  { keys: 'without keys', role: null, tables: TABLES },
  { keys: 'with a key', role: 'train', tables: OF_THE_SERVICES },
] as const)('$keys:', ({ role, tables }) => {
  let stack: HostileStack;
  let treeBefore: Record<string, string>;

  beforeAll(async () => {
    stack = await startHostileStack(NO_LIMIT, role);
    treeBefore = await treeOutsideData(stack);
  }, 120_000);

  afterAll(async () => {
    await stack?.stop();
  }, 60_000);

  describe.each(tables)('$kind:', ({ cases }) => {
    test.each(named(cases))(
      '%s',
      async (_, one) => {
        expect(await outcomeInTime(stack, one)).toBe(one.outcome);
      },
      90_000,
    );
  });

  if (role !== null) {
    // Slow ones are there for those who are answered beside them.
    describe.each(tables.filter((table) => table !== slowSenders))('without it: $kind:', ({ cases }) => {
      test.each(named(cases))(
        '%s',
        async (_, one) => {
          const found = await outcomeInTime({ ...stack, token: null }, one);
          if (found === one.outcome && (one.open || BEFORE_ACCESS.test(found))) return;
          expect(found).toMatch(/^401 /);
        },
        90_000,
      );
    });
  }

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
  });
});

test('there were enough of them', () => {
  const slowest = times.sort((a, b) => b.ms - a.ms).slice(0, 3);
  const shown = slowest.map(({ name, ms }) => `${name} (${Math.round(ms)} ms)`).join(', ');
  console.log(`${COUNT} hostile inputs, sent ${times.length} times; the slowest: ${shown}`);
  expect(new Set(TABLES.flatMap(({ kind, cases }) => cases.map(({ name }) => `${kind} ${name}`))).size).toBe(COUNT);
  expect(COUNT).toBeGreaterThan(300);
});
