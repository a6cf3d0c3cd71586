import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MAX_ALIAS_MOVES, MAX_ALIASES_OF_OWNER } from '@lorasmith/contracts';
import { openLocalAnnotations } from '@lorasmith/storage';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openAnnotations } from '../../../storage/src/annotations.js';
import { inRandomOrder, scheduledTexts } from '../../../storage/test/scheduled-texts.js';
import { ALIASES_KIND, AliasStore, type NewMove } from './alias-store.js';

const OWNER = `key_${'1'.repeat(24)}`;
const NAME = { owner: OWNER, name: 'support-bot' };
const adapter = (number: number) => `ad_${String(number).padStart(24, '0')}`;
const to = (number: number, changes: Partial<NewMove> = {}): NewMove => ({
  adapter: adapter(number),
  base_model: 'tiny-llama',
  moved_by: OWNER,
  reason: null,
  rolled_back_to: null,
  guard: null,
  ifVersion: undefined,
  ...changes,
});
const ranges = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
const CONFLICT = { code: 'conflict', param: 'if_version' };

let root: string;
let aliases: AliasStore;
const openStore = async () => new AliasStore(await openLocalAnnotations({ root, kind: ALIASES_KIND }));

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'lorasmith-aliases-'));
  aliases = await openStore();
});
afterEach(() => rm(root, { recursive: true, force: true }));

describe('moves at the same time', () => {
  test('are all in the history, each with a number of its own, in whatever order the operations of processes happen', async () => {
    for (let seed = 0; seed < 200; seed++) {
      await inRandomOrder(seed, async (turn) => {
        const texts = scheduledTexts(turn);
        const moved = ranges(4).map((number) => new AliasStore(openAnnotations(texts)).move(NAME, to(number)));
        const versions = (await Promise.all(moved)).map(({ version }) => version);
        expect(versions.toSorted(), `seed ${seed}`).toEqual([1, 2, 3, 4]);
        const alias = await new AliasStore(openAnnotations(texts)).get(NAME);
        expect(
          alias?.history.map(({ version }) => version),
          `seed ${seed}`,
        ).toEqual([4, 3, 2, 1]);
        expect(alias?.history.map((move) => move.adapter).toSorted(), `seed ${seed}`).toEqual(ranges(4).map(adapter));
        expect(alias?.adapter, `seed ${seed}`).toBe(adapter(versions.indexOf(4) + 1));
      });
    }
  });

  test('of one version: one happens, and the others are a conflict', async () => {
    for (let seed = 0; seed < 200; seed++) {
      await inRandomOrder(seed, async (turn) => {
        const texts = scheduledTexts(turn);
        const moves = ranges(4).map((number) =>
          new AliasStore(openAnnotations(texts)).move(NAME, to(number, { ifVersion: 0 })),
        );
        const settled = await Promise.allSettled(moves);
        const failed = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
        expect(failed, `seed ${seed}`).toEqual(Array.from({ length: 3 }, () => expect.objectContaining(CONFLICT)));
        const alias = await new AliasStore(openAnnotations(texts)).get(NAME);
        const moved = settled.findIndex(({ status }) => status === 'fulfilled') + 1;
        expect([alias?.adapter, alias?.history.length], `seed ${seed}`).toEqual([adapter(moved), 1]);
      });
    }
  });

  test('and a deletion: each happens before or after it', async () => {
    for (let seed = 0; seed < 200; seed++) {
      await inRandomOrder(seed, async (turn) => {
        const texts = scheduledTexts(turn);
        const open = () => new AliasStore(openAnnotations(texts));
        await open().move(NAME, to(1));
        const [second, third] = await Promise.all([
          open().move(NAME, to(2)),
          open().move(NAME, to(3)),
          open().remove(NAME),
        ]);
        const after = (await open().get(NAME))?.history.map(({ version }) => version) ?? [];
        // What is left is what came after the deletion.
        expect(after, `seed ${seed}`).toEqual([3, 2].slice(0, after.length));
        expect([second.version, third.version].toSorted(), `seed ${seed}`).toEqual([2, 3]);
      });
    }
  });

  test('through two stores of the same folder are all in the history', async () => {
    const other = await openStore();
    await Promise.all(ranges(8).map((number) => (number % 2 === 0 ? aliases : other).move(NAME, to(number))));
    const history = (await aliases.get(NAME))!.history;
    expect(history.map(({ version }) => version)).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
    expect((await other.get(NAME))!.history).toEqual(history);
  });
});

test('a name says who moved it when and why, also to a process that starts later', async () => {
  await aliases.move(NAME, to(1, { reason: 'the first' }));
  const moved = await aliases.move(NAME, to(2, { moved_by: null, rolled_back_to: 1 }));
  const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT/);
  const move = { base_model: 'tiny-llama', moved_at: time };
  expect(moved).toEqual({
    ...{ name: 'support-bot', object: 'alias', owner: OWNER, ...move },
    ...{ adapter: adapter(2), version: 2, moved_by: null, deliver: [] },
    history: [
      { ...move, version: 2, adapter: adapter(2), moved_by: null, reason: null, rolled_back_to: 1, guard: null },
      {
        ...move,
        version: 1,
        adapter: adapter(1),
        moved_by: OWNER,
        reason: 'the first',
        rolled_back_to: null,
        guard: null,
      },
    ],
  });
  expect(await (await openStore()).get(NAME)).toEqual(moved);
});

test('a move to the present adapter changes nothing, and the oldest moves are dropped', async () => {
  const first = await aliases.move(NAME, to(1));
  expect(await aliases.move(NAME, to(1, { reason: 'again' }))).toEqual(first);
  for (let number = 2; number <= MAX_ALIAS_MOVES + 5; number++) await aliases.move(NAME, to(number));
  const { version, history } = (await aliases.get(NAME))!;
  expect([version, history.length, history.at(-1)?.version]).toEqual([MAX_ALIAS_MOVES + 5, MAX_ALIAS_MOVES, 6]);
});

test('a name is moved only from the version that is given', async () => {
  await expect(aliases.move(NAME, to(1, { ifVersion: 1 }))).rejects.toMatchObject({
    ...CONFLICT,
    message: expect.stringContaining('it does not exist'),
  });
  await aliases.move(NAME, to(1, { ifVersion: 0 }));
  await aliases.move(NAME, to(2, { ifVersion: 1 }));
  await expect(aliases.move(NAME, to(3, { ifVersion: 1 }))).rejects.toMatchObject({
    ...CONFLICT,
    message: expect.stringContaining(`version 2, and points to ${adapter(2)}`),
  });
});

test('each owner has names of its own, and one whose key is the beginning of another has no other', async () => {
  const nobody = { owner: null, name: NAME.name };
  await aliases.move(NAME, to(1));
  await aliases.move({ ...NAME, name: 'another' }, to(2));
  await aliases.move(nobody, to(2));
  const listed = async (owner?: string | null) => (await aliases.list(owner)).map((one) => [one.name, one.owner]);
  expect(await listed(OWNER)).toEqual([
    ['another', OWNER],
    ['support-bot', OWNER],
  ]);
  expect(await listed(null)).toEqual([['support-bot', null]]);
  expect(await listed()).toHaveLength(3);
  expect((await aliases.pointingTo(adapter(2))).map(({ name }) => name).toSorted()).toEqual(['another', 'support-bot']);
  expect(await aliases.adapterOf('support-bot', OWNER)).toBe(adapter(1));
  expect(await aliases.adapterOf('support-bot', null)).toBe(adapter(2));
  expect(await aliases.adapterOf('support-bot', `key_${'2'.repeat(24)}`)).toBe(null);
  expect(await aliases.adapterOf(adapter(7), OWNER)).toBe(adapter(7));
});

test('a name that is deleted has no history, and its numbers go on until it is forgotten', async () => {
  await aliases.move(NAME, to(1));
  await aliases.move(NAME, to(2));
  await aliases.remove(NAME);
  expect([await aliases.get(NAME), await aliases.list(), await aliases.pointingTo(adapter(2))]).toEqual([null, [], []]);
  await expect(aliases.remove(NAME)).rejects.toMatchObject({ code: 'alias_not_found' });
  await expect(aliases.move(NAME, to(3, { ifVersion: 2 }))).rejects.toMatchObject(CONFLICT);
  expect(await aliases.move(NAME, to(2, { ifVersion: 0 }))).toMatchObject({ version: 3, history: [{ version: 3 }] });
  expect(await aliases.sweep(0)).toBe(0);
  await aliases.remove(NAME);
  expect(await aliases.sweep(3_600_000)).toBe(0);
  expect(await aliases.sweep(-1)).toBe(1);
  expect(await aliases.move(NAME, to(1))).toMatchObject({ version: 1 });
});

test('an owner has a limit of names, and those that exist can be moved at it', async () => {
  const names = ranges(MAX_ALIASES_OF_OWNER).map((number) => ({ owner: OWNER, name: `n${number}` }));
  for (const name of names) await aliases.move(name, to(1));
  await expect(aliases.move(NAME, to(1))).rejects.toMatchObject({ code: 'quota_exceeded' });
  expect(await aliases.move(names[0]!, to(2))).toMatchObject({ version: 2 });
  expect(await aliases.move({ owner: null, name: 'n' }, to(1))).toMatchObject({ version: 1 });
  await aliases.remove(names[1]!);
  expect(await aliases.move(NAME, to(1))).toMatchObject({ version: 1 });
});

test.each(['', 'A', 'ad_1', 'key_1', '1a', 'a b', 'a:b', '../a', 'a/b', 'a~b', 'ü', `a${'b'.repeat(64)}`, 'a\n'])(
  '%j is no name',
  async (name) => {
    expect(await aliases.get({ owner: OWNER, name })).toBe(null);
    expect(await aliases.adapterOf(name, OWNER)).toBe(null);
  },
);
