import { expect, test } from 'vitest';
import { GroupRelativeObjective } from './group-relative.js';
import { objectiveOf } from './objective.js';
import { PreferenceObjective } from './preference.js';

const grader = { type: 'regex' as const, pattern: 'a' };

test('each kind has its defaults', () => {
  expect(objectiveOf({ kind: 'preference' })).toMatchObject({ loss: 'sigmoid', beta: 0.1, sft_weight: 0 });
  const groups = objectiveOf({ kind: 'group-relative', grader });
  const { kind, grader: given, ...settings } = GroupRelativeObjective.properties;
  expect(groups).toEqual({
    kind: 'group-relative',
    grader,
    ...Object.fromEntries(
      Object.entries(settings).map(([name, schema]) => [name, (schema as { default?: unknown }).default]),
    ),
  });
});

test('a setting of the other kind is refused, and a missing grader', () => {
  expect(() => objectiveOf({ kind: 'preference', group_size: 4 })).toThrow(
    expect.objectContaining({ code: 'invalid_request', param: 'objective.group_size' }),
  );
  expect(() => objectiveOf({ kind: 'group-relative', grader, beta: 1 })).toThrow(
    expect.objectContaining({ code: 'invalid_request', param: 'objective.beta' }),
  );
  expect(() => objectiveOf({ kind: 'group-relative' })).toThrow(
    expect.objectContaining({ code: 'invalid_request', param: 'objective.grader' }),
  );
});

test('no two kinds have a setting of the same name', () => {
  const both = Object.keys(PreferenceObjective.properties).filter((name) =>
    Object.hasOwn(GroupRelativeObjective.properties, name),
  );
  expect(both).toEqual(['kind']);
});
