import { type Adapter, AdapterId, type Job, type ModelName } from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';

const adapterIdSchema = Compile(AdapterId);

/** Where the OpenAI API has the name of an organization. */
const ORGANIZATION = 'lorasmith';
const MAX_SUFFIX_LENGTH = 40;

/**
 * The name of a fine-tuned model in the form of the OpenAI API: `ft:<base model>:lorasmith:<suffix>:<adapter id>`. The suffix
 * comes from the name of the job or the adapter, and is empty without one.
 */
export function fineTunedName({ id, base_model: base, name }: Pick<Adapter, 'id' | 'base_model' | 'name'>): string {
  return `${stem(base, name)}:${id}`;
}

/** Whether a name is that of this adapter, whatever its suffix: an adapter keeps its id when it is renamed. */
export function isNameOf(name: string, { id, base_model: base }: Pick<Adapter, 'id' | 'base_model'>): boolean {
  const [start, end] = [stem(base, null), `:${id}`];
  const suffix = name.slice(start.length, -end.length);
  return name === `${start}${suffix}${end}` && suffix === suffixOf(suffix);
}

/** The name of a checkpoint of a job. As in the OpenAI API, its last part is the step. */
export function checkpointName({ id, base_model: base, name }: Pick<Job, 'id' | 'base_model' | 'name'>, step: number) {
  return `${stem(base, name)}:${id}:ckpt-step-${step}`;
}

/** The adapter or checkpoint of a name under `ft:`; null for any other name. */
export function parseFineTunedName(name: string): { adapter: AdapterId } | { checkpoint: string } | null {
  if (!name.startsWith('ft:')) return null;
  const last = name.slice(name.lastIndexOf(':') + 1);
  return adapterIdSchema.Check(last) ? { adapter: last } : { checkpoint: last };
}

function stem(base: ModelName, name: string | null): string {
  return `ft:${base}:${ORGANIZATION}:${suffixOf(name ?? '')}`;
}

/** Lower-case letters and digits, with hyphens between them. */
function suffixOf(name: string): string {
  const words = name
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter(Boolean);
  return words.join('-').slice(0, MAX_SUFFIX_LENGTH).replace(/-$/, '');
}
