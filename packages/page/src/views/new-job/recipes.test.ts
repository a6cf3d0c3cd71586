import { expect, test } from 'vitest';
import { jobFields } from './job-fields.js';
import { RECIPES, recipeOf } from './recipes.js';

test('a recipe names fields of the form, and all name the same ones, so that each replaces the others', () => {
  const known = new Set(jobFields().map(({ id }) => id));
  const [first, ...others] = RECIPES.map(({ fields }) => Object.keys(fields).sort());
  for (const id of first!) expect(known).toContain(id);
  for (const other of others) expect(other).toEqual(first);
});

test('an empty draft is the standard recipe, and a changed one is none', () => {
  expect(recipeOf({ dataset: 'ds_1' })?.name).toBe('Standard');
  for (const recipe of RECIPES) expect(recipeOf({ name: 'x', ...recipe.fields })).toBe(recipe);
  expect(recipeOf({ 'lora.r': '5' })).toBeUndefined();
});
