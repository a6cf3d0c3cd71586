import { expect, test } from 'vitest';
import { inRandomOrder, scheduledTexts } from '../test/scheduled-texts.js';
import { openAnnotations } from './annotations.js';

test('each of several changes at the same time counts once, in whatever order the operations of processes happen', async () => {
  const of = { id: 'ds_1', created_at: '2026-01-01T00:00:00Z' };
  for (let seed = 0; seed < 300; seed++) {
    await inRandomOrder(seed, async (turn) => {
      const texts = scheduledTexts(turn);
      const changes = ['a', 'b', 'c', 'd'].map((letter) =>
        openAnnotations(texts).change(of, (value) => [...((value as string[] | null) ?? []), letter]),
      );
      await Promise.all(changes);
      const letters = (await openAnnotations(texts).get(of)) as string[];
      expect([...letters].sort(), `seed ${seed}`).toEqual(['a', 'b', 'c', 'd']);
      expect(await texts.list(''), `seed ${seed}`).toHaveLength(1);
    });
  }
});

test('a change that throws changes nothing, and all values are listed by the beginning of their ids', async () => {
  const annotations = openAnnotations(scheduledTexts(async () => {}));
  const at = (id: string) => ({ id, created_at: '2026-01-01T00:00:00Z' });
  for (const id of ['b.2', 'a.1', 'b.1']) await annotations.change(at(id), () => id);
  const refused = new Error('no');
  const throwing = annotations.change(at('b.1'), () => {
    throw refused;
  });
  await expect(throwing).rejects.toBe(refused);
  expect(await annotations.all('b.')).toEqual([
    { id: 'b.1', value: 'b.1' },
    { id: 'b.2', value: 'b.2' },
  ]);
  expect(await annotations.all('')).toHaveLength(3);
});
