import { type Static, Type } from 'typebox';
import { ProductError } from './error.js';
import { GROUP_RELATIVE_KIND, GroupRelativeObjective } from './group-relative.js';
import { PREFERENCE_KIND, PreferenceObjective, preferenceObjectiveOf } from './preference.js';
import { closed } from './schema-parts.js';

const { kind: _preference, ...preferenceSettings } = PreferenceObjective.properties;
const { kind: _group, ...groupSettings } = GroupRelativeObjective.properties;

/** The kinds of objectives that a job names; without one, it trains the next token. */
const OBJECTIVE_KINDS = ['preference', 'group-relative'] as const;

/** The settings of all kinds, which have no name in common. */
export const OBJECTIVE_SETTINGS = { ...preferenceSettings, ...groupSettings };

/** The objective of a job as it is asked for: what is left out has a default. */
export const ObjectiveRequest = Type.Object(
  {
    kind: Type.Enum([...OBJECTIVE_KINDS], { description: `${PREFERENCE_KIND} ${GROUP_RELATIVE_KIND}` }),
    ...Type.Partial(Type.Object(OBJECTIVE_SETTINGS)).properties,
  },
  { $id: 'ObjectiveRequest', ...closed },
);
export type ObjectiveRequest = Static<typeof ObjectiveRequest>;

/** The objective of a job, with every default. */
export const JobObjective = Type.Union([PreferenceObjective, GroupRelativeObjective], { $id: 'JobObjective' });
export type JobObjective = PreferenceObjective | GroupRelativeObjective;

/**
 * The objective with its defaults, some of which depend on its other settings.
 * @throws ProductError `invalid_request` for a setting of the other kind, or one that is missing
 */
export function objectiveOf(request: ObjectiveRequest & { kind: 'preference' }): PreferenceObjective;
export function objectiveOf(request: ObjectiveRequest): JobObjective;
export function objectiveOf({ kind, ...given }: ObjectiveRequest): JobObjective {
  const own: object = kind === 'preference' ? preferenceSettings : groupSettings;
  const foreign = Object.keys(given).find((setting) => !Object.hasOwn(own, setting));
  if (foreign !== undefined) {
    const message = `objective.${foreign} is no setting of the objective ${kind}. Leave it out, or choose the other kind.`;
    throw new ProductError('invalid_request', message, { param: `objective.${foreign}` });
  }
  if (kind === 'preference') return preferenceObjectiveOf(given);
  const { grader } = given;
  if (grader === undefined) {
    const message = 'objective.grader is missing: the objective group-relative needs what gives answers their rewards.';
    throw new ProductError('invalid_request', message, { param: 'objective.grader' });
  }
  return {
    kind,
    grader,
    group_size: given.group_size ?? 8,
    max_completion_tokens: given.max_completion_tokens ?? 512,
    normalization: given.normalization ?? 'dapo',
    scale_rewards: given.scale_rewards ?? 'group',
    clip_low: given.clip_low ?? 0.2,
    clip_high: given.clip_high ?? null,
    kl_weight: given.kl_weight ?? 0,
    updates_per_batch: given.updates_per_batch ?? 1,
  };
}
