import { Check } from 'typebox/value';
import { expect, test } from 'vitest';
import { JobRequest, loraScale, RECIPES, withRecipe } from './index.js';

const ASKED: JobRequest = { base_model: 'tiny', dataset: 'ds_0123456789abcdef01234567' };
const highRank = RECIPES.find(({ name }) => name === 'rslora-64')!;

test.each(RECIPES)('the recipe $name makes a request of the schema, and holds out rows', (recipe) => {
  const request = withRecipe(recipe, ASKED);
  expect(Check(JobRequest, request)).toBe(true);
  expect(request.validation).toEqual({ split: 0.05 });
});

test('recipes have names of their own', () => {
  expect(new Set(RECIPES.map(({ name }) => name)).size).toBe(RECIPES.length);
  expect(new Set(RECIPES.map(({ title }) => title)).size).toBe(RECIPES.length);
});

test('rank 64 with rsLoRA has a scale of 8', () => {
  const { r, alpha, use_rslora } = { use_rslora: false, r: 0, alpha: 0, ...highRank.settings.lora };
  expect(loraScale({ rank: r, alpha, use_rslora })).toBe(8);
});

test('settings of a request take the place of those of its recipe, and its other fields stay', () => {
  const request = { ...ASKED, name: 'mine', lora: { r: 16, target_modules: ['q_proj'] }, training: { seed: 1 } };
  expect(withRecipe(highRank, request)).toEqual({
    ...request,
    lora: { r: 16, alpha: 64, use_rslora: true, target_modules: ['q_proj'] },
    validation: { split: 0.05 },
  });
});

test('a dataset to evaluate on takes the place of the share held out; null is none', () => {
  const dataset = 'ds_76543210fedcba9876543210';
  expect(withRecipe(highRank, { validation: { dataset } }).validation).toEqual({ dataset });
  expect(withRecipe(highRank, { validation: { dataset: null } }).validation).toEqual({ split: 0.05, dataset: null });
});

test('a section that is no object stays, so that the service says what is wrong with it', () => {
  const wrong = { lora: 'rank 4' } as unknown as Partial<JobRequest>;
  expect(withRecipe(highRank, wrong)).toMatchObject({ lora: 'rank 4' });
});
