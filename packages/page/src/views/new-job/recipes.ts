import type { Draft } from './draft.js';

/** Settings that go together, by the ids of their fields. Fields that it does not name are left as they are. */
export interface Recipe {
  name: string;
  /** Its purpose, and the settings. */
  text: string;
  /** An empty text is the default of the service. */
  fields: Draft;
}

export const RECIPES: readonly Recipe[] = [
  {
    name: 'Quick try',
    text: 'At most 30 steps: whether the data is right, in minutes.',
    fields: { 'training.max_steps': '30', 'training.epochs': '', 'lora.r': '', 'lora.alpha': '' },
  },
  {
    name: 'Standard',
    text: 'The defaults of the service.',
    fields: { 'training.max_steps': '', 'training.epochs': '', 'lora.r': '', 'lora.alpha': '' },
  },
  {
    name: 'Thorough',
    text: 'Five epochs, rank 32, alpha 64.',
    fields: { 'training.max_steps': '', 'training.epochs': '5', 'lora.r': '32', 'lora.alpha': '64' },
  },
];

/** The recipe whose fields a draft has. */
export function recipeOf(draft: Draft): Recipe | undefined {
  return RECIPES.find(({ fields }) => Object.entries(fields).every(([id, text]) => (draft[id] ?? '') === text));
}
