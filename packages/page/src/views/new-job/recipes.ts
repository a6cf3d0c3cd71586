import type { Draft } from './draft.js';

/** Settings that go together, by the ids of their fields. Fields that it does not name are left as they are. */
export interface Recipe {
  name: string;
  /** Its purpose, and the settings. */
  text: string;
  /** An empty text is the default of the service. */
  fields: Draft;
}

const SPLIT = 'validation.split';
/** The share of rows that every recipe holds out: without one, every figure would be of rows that were trained on. */
const HELD_OUT = { [SPLIT]: '0.05' };

export const RECIPES: readonly Recipe[] = [
  {
    name: 'Quick try',
    text: 'At most 30 steps: whether the data is right, in minutes.',
    fields: { 'training.max_steps': '30', 'training.epochs': '', 'lora.r': '', 'lora.alpha': '', ...HELD_OUT },
  },
  {
    name: 'Standard',
    text: 'The defaults of the service, and 5 % of the rows held out to measure on.',
    fields: { 'training.max_steps': '', 'training.epochs': '', 'lora.r': '', 'lora.alpha': '', ...HELD_OUT },
  },
  {
    name: 'Thorough',
    text: 'Five epochs, rank 32, alpha 64.',
    fields: { 'training.max_steps': '', 'training.epochs': '5', 'lora.r': '32', 'lora.alpha': '64', ...HELD_OUT },
  },
];

/** The form before anything is changed in it: the standard recipe. */
export const FIRST_DRAFT: Draft = HELD_OUT;

/** The recipe whose fields a draft has. */
export function recipeOf(draft: Draft): Recipe | undefined {
  return RECIPES.find(({ fields }) =>
    Object.entries(withoutTwoValidations({ ...draft, ...fields })).every(([id, text]) => (draft[id] ?? '') === text),
  );
}

/** The draft without the share of a recipe where a dataset to evaluate on is chosen: a job has one of them. */
export function withoutTwoValidations(draft: Draft): Draft {
  const isTwice = (draft['validation.dataset'] ?? '') !== '' && draft[SPLIT] === HELD_OUT[SPLIT];
  return isTwice ? { ...draft, [SPLIT]: '' } : draft;
}
