import { beforeEach, expect, test } from 'vitest';
import { newEntryName } from './bundle-entry.js';
import { BundleIndex, type EntryNames } from './bundle-index.js';

let folders: Map<string, Set<string>>;
let index: BundleIndex;

beforeEach(() => {
  folders = new Map();
  index = new BundleIndex(namesOf(folders));
});

/** The index of a process that dies before its change `lives` of it. */
function namesOf(kept: Map<string, Set<string>>, lives = Number.POSITIVE_INFINITY): EntryNames {
  let changes = 0;
  const change = () => {
    if (changes++ >= lives) throw new Error('dead');
  };
  const sorted = (folder: string) => [...(kept.get(folder) ?? [])].sort();
  return {
    async add(folder, name) {
      change();
      kept.set(folder, (kept.get(folder) ?? new Set()).add(name));
    },
    async remove(folder, name) {
      change();
      kept.get(folder)?.delete(name);
    },
    has: async (folder, name) => kept.get(folder)?.has(name) ?? false,
    page: async (folder, { after = '', limit }) =>
      sorted(folder)
        .filter((name) => name > after)
        .slice(0, limit),
    list: async (folder) => sorted(folder),
    listAll: async () => new Map([...kept.keys()].map((folder) => [folder, sorted(folder)])),
  };
}

const listing = { owner: 'key_1', created_at: '2026-01-01T00:00:00.000Z', bytes: 5 };
const other = { ...listing, owner: 'key_2', created_at: '2026-01-02T00:00:00.000Z' };
const store = { list: async () => ['ds_1'], has: async (id: string) => id === 'ds_1' };
const repair = (of = index) => of.repair(store, async () => listing, 0);
const allNames = () => [...folders.values()].flatMap((names) => [...names]);

/** Asserts that the bundle has one entry, in both of its folders, and that nothing else is there. */
async function expectOneEntry(): Promise<void> {
  expect(await index.entries()).toMatchObject([{ id: 'ds_1', owner: 'key_1', bytes: 5 }]);
  expect(await index.newest({ owner: 'key_1', limit: 9 })).toEqual(await index.entries());
  expect(allNames()).toHaveLength(2);
}

/** The state of the index before a repair, and the number of changes that the repair makes. */
const DAMAGES: [string, number, () => Promise<unknown>][] = [
  ['no entry', 2, async () => {}],
  [
    'the entries of others',
    6,
    async () => {
      await index.add('ds_1', other);
      await index.add('ds_1', { ...other, bytes: 6 });
    },
  ],
  ['a second entry', 2, async () => Promise.all([index.add('ds_1', listing), index.add('ds_1', listing)])],
  ['an entry that its owner does not see', 2, async () => folders.set('all', new Set([newEntryName('ds_1', listing)]))],
  [
    'an entry that its owner alone sees',
    2,
    async () => folders.set('owner.key_1', new Set([newEntryName('ds_1', listing)])),
  ],
];

test.each(DAMAGES)(
  'a repair of %s that dies at any change is completed by the next one',
  async (_, changes, damage) => {
    for (let lives = 0; lives <= changes; lives++) {
      folders.clear();
      await damage();
      const died = await repair(new BundleIndex(namesOf(folders, lives))).then(
        () => false,
        () => true,
      );
      expect(died).toBe(lives < changes);
      await repair();
      await expectOneEntry();
      expect(await repair()).toBe(0);
    }
  },
);

test.each(DAMAGES)('a bundle with %s that is listed stays so throughout a repair', async (_, changes, damage) => {
  await damage();
  const isListed = async () => (await index.entries()).some(({ id }) => id === 'ds_1');
  const before = await isListed();
  for (let lives = 0; lives <= changes; lives++) {
    await repair(new BundleIndex(namesOf(folders, lives))).catch(() => {});
    if (before) expect(await isListed()).toBe(true);
  }
});

test.each(DAMAGES)('two repairs of %s at once leave one entry', async (_, _changes, damage) => {
  await damage();
  await Promise.all([repair(), repair()]);
  await expectOneEntry();
});

test('an entry without a bundle is removed from every folder in which it is', async () => {
  const name = newEntryName('ds_2', other);
  for (const folder of ['all', 'owner.key_2']) {
    folders.set(folder, new Set([name]));
    expect(await repair()).toBeGreaterThan(0);
    await expectOneEntry();
  }
});
