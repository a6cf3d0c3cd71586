import { expect, test } from 'vitest';
import { jobFields } from './job-fields.js';
import { FIRST_DRAFT, RECIPES, recipeOf, withoutTwoValidations } from './recipes.js';

test('a recipe names fields of the form, and all name the same ones, so that each replaces the others', () => {
  const known = new Set(jobFields().map(({ id }) => id));
  const [first, ...others] = RECIPES.map(({ fields }) => Object.keys(fields).sort());
  for (const id of first!) expect(known).toContain(id);
  for (const other of others) expect(other).toEqual(first);
});

test('the first draft is the standard recipe, which holds out rows, and a changed one is none', () => {
  expect(recipeOf({ dataset: 'ds_1', ...FIRST_DRAFT })?.name).toBe('Standard');
  expect(FIRST_DRAFT).toEqual({ 'validation.split': '0.05' });
  for (const recipe of RECIPES) expect(recipeOf({ name: 'x', ...recipe.fields })).toBe(recipe);
  expect(recipeOf({})).toBeUndefined();
  expect(recipeOf({ ...FIRST_DRAFT, 'lora.r': '5' })).toBeUndefined();
});

test('a dataset to evaluate on takes the place of the held-out share of a recipe, and of no other', () => {
  const other = { 'validation.dataset': 'ds_2' };
  const draft = withoutTwoValidations({ ...FIRST_DRAFT, ...other });
  expect(draft).toEqual({ 'validation.split': '', ...other });
  expect(recipeOf(draft)?.name).toBe('Standard');
  expect(withoutTwoValidations({ 'validation.split': '0.2', ...other })).toMatchObject({ 'validation.split': '0.2' });
});
