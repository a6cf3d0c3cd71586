import type { Evaluation } from '@lorasmith/contracts';
import { type AnswerFigures, groupMetrics } from './group-relative/answer-figures.js';
import { type PreferenceFigures, preferenceMetrics } from './preference/preference-figures.js';

/** The results of a pass for what a loss is of: a pair of answers, an answer with a label, or a sampled one. */
export type Figures = PreferenceFigures | AnswerFigures;

/** The metrics that an objective has beside loss and accuracy. @param figures of one job */
export function figureMetrics(figures: readonly Figures[]): Pick<Evaluation, 'preference' | 'group'> {
  const ofGroups = figures.filter((one) => one.kind === 'group-relative');
  if (ofGroups.length > 0) return { group: groupMetrics(ofGroups) };
  const ofPreferences = figures.filter((one) => one.kind === 'preference');
  return ofPreferences.length > 0 ? { preference: preferenceMetrics(ofPreferences) } : {};
}
