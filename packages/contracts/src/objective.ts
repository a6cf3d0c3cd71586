import { type Static, Type } from 'typebox';
import { ProductError } from './error.js';
import { GROUP_RELATIVE_KIND, GroupRelativeObjective, groupRelativeContract } from './group-relative.js';
import type { ObjectiveContract } from './objective-contract.js';
import { PREFERENCE_KIND, PreferenceObjective, preferenceContract } from './preference.js';
import { closed } from './schema-parts.js';

// The page has the schemas alone: what is made of them here calls no contract.
const { kind: preferenceKind, ...preferenceSettings } = PreferenceObjective.properties;
const { kind: groupKind, ...groupSettings } = GroupRelativeObjective.properties;

/** The settings of all kinds, which have no name in common. */
export const OBJECTIVE_SETTINGS = { ...preferenceSettings, ...groupSettings };

/** The objective of a job as it is asked for: what is left out has a default. */
export const ObjectiveRequest = Type.Object(
  {
    kind: Type.Enum([...preferenceKind.enum, ...groupKind.enum], {
      description: `${PREFERENCE_KIND} ${GROUP_RELATIVE_KIND}`,
    }),
    ...Type.Partial(Type.Object(OBJECTIVE_SETTINGS)).properties,
  },
  { $id: 'ObjectiveRequest', ...closed },
);
export type ObjectiveRequest = Static<typeof ObjectiveRequest>;

/** The objective of a job, with every default. */
export const JobObjective = Type.Union([PreferenceObjective, GroupRelativeObjective], { $id: 'JobObjective' });
export type JobObjective = Static<typeof JobObjective>;

/** The objectives that a job names; without one, it trains the next token. Another one is a line here, and in the schemas above. */
const OBJECTIVES = [preferenceContract, groupRelativeContract] as const;

/** The contract of an objective that a job names. */
export function objectiveContract(kind: JobObjective['kind']): ObjectiveContract<JobObjective> {
  return OBJECTIVES.find((one) => one.kind === kind)!;
}

/**
 * The objective with its defaults, some of which depend on its other settings.
 * @throws ProductError `invalid_request` for a setting of the other kind, or one that is missing
 */
export function objectiveOf<Kind extends JobObjective['kind']>({
  kind,
  ...given
}: ObjectiveRequest & { kind: Kind }): Extract<JobObjective, { kind: Kind }> {
  const { schema, complete } = objectiveContract(kind);
  const foreign = Object.keys(given).find((setting) => !Object.hasOwn(schema.properties, setting));
  if (foreign !== undefined) {
    const message = `objective.${foreign} is no setting of the objective ${kind}. Leave it out, or choose the other kind.`;
    throw new ProductError('invalid_request', message, { param: `objective.${foreign}` });
  }
  return complete(given) as Extract<JobObjective, { kind: Kind }>;
}
