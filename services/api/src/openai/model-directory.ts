import { type AliasStore, readManifest } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import {
  type Adapter,
  AdapterId,
  type AdapterManifest,
  type AliasSummary,
  type Job,
  type ModelName,
  type OpenaiModel,
  ProductError,
} from '@lorasmith/contracts';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { Compile } from 'typebox/compile';
import type { RegistryClient } from '../adapters/registry-client.js';
import { type AdapterUsers, beginAdapterDeletion } from '../adapters/registry-client.js';

/** The model that a request's `model` names. */
export interface NamedModel {
  base_model: ModelName;
  /** null: the base model itself. */
  adapter: AdapterId | null;
}

export interface ModelDirectoryOptions {
  adapters: BundleStore;
  jobs: AdapterUsers['jobs'];
  aliases: Pick<AliasStore, 'adapterOf' | 'get' | 'list' | 'pointingTo'>;
  baseModels: ModelSource;
  registry: RegistryClient;
}

/** The list has no pages. `GET /adapters` lists all. */
const MAX_LISTED_ADAPTERS = 1_000;
/** Limits, for docs/limits.md. */
export const modelListLimits = {
  adapters: { value: MAX_LISTED_ADAPTERS, unit: 'adapters', beyond: 'the oldest are left out' },
};
/** The family whose models have features instead of text. */
const WITHOUT_TEXT = 'classifier';
const NOBODY = 'lorasmith';
const param = 'model';

const adapterIdSchema = Compile(AdapterId);

/**
 * The models that a caller can name in a request: base models, and its own adapters by their ids, by their names as
 * fine-tuned models, or by names that point to them. Such a name precedes a base model that was added later under the same name.
 */
export class ModelDirectory {
  readonly #options: ModelDirectoryOptions;

  constructor(options: ModelDirectoryOptions) {
    this.#options = options;
  }

  /**
   * The model of a name.
   * @throws ProductError `adapter_not_found`, also for one that the caller may not use; `model_not_found`;
   * `model_not_supported` for one that generates no text; the codes of a broken one
   */
  async resolve(name: string, caller: Caller): Promise<NamedModel> {
    return await atModel(async () => {
      const adapter = await this.#adapterNamed(name, caller);
      const base = adapter?.base_model.name ?? name;
      await this.#checkBase(base);
      return { base_model: base, adapter: adapter?.id ?? null };
    });
  }

  /** The model of a name as the OpenAI API has it. @throws ProductError as {@link resolve} */
  async describe(name: string, caller: Caller): Promise<OpenaiModel> {
    return await atModel(async () => {
      const alias = await this.#options.aliases.get({ owner: caller.owner, name });
      if (alias !== null) return aliasModelOf(alias);
      const adapter = await this.#adapterNamed(name, caller);
      if (adapter !== null) return adapterModelOf({ ...adapter, base_model: adapter.base_model.name });
      await this.#checkBase(name);
      return baseModelOf(name);
    });
  }

  /** The base models by name, then the caller's names, then the newest adapters. @throws ProductError `registry_unavailable` */
  async list(caller: Caller): Promise<OpenaiModel[]> {
    const { baseModels, registry, aliases } = this.#options;
    const named = await aliases.list(caller.owner);
    const bases = (await baseModels.list()).filter(
      ({ name, problem, family }) =>
        problem === null && family !== WITHOUT_TEXT && !named.some((alias) => alias.name === name),
    );
    const listed = await registry.newestAdapters(caller, MAX_LISTED_ADAPTERS);
    return [...bases.map(({ name }) => baseModelOf(name)), ...named.map(aliasModelOf), ...listed.map(adapterModelOf)];
  }

  /**
   * Deletes a fine-tuned model.
   * @throws ProductError as {@link resolve}; `forbidden` for a base model; `in_use`; `registry_unavailable`
   */
  async delete(name: string, caller: Caller): Promise<void> {
    const { registry, ...users } = this.#options;
    await atModel(async () => {
      const adapter = await this.#adapterNamed(name, caller);
      if (adapter !== null) {
        await beginAdapterDeletion(users, adapter.id);
        return await registry.removeAdapter(adapter.id);
      }
      await this.#checkBase(name);
      const message = `${name} is a base model. Only fine-tuned models can be deleted.`;
      throw new ProductError('forbidden', message);
    });
  }

  /** The adapter of this id, alias or fine-tuned model; null for any other name, which may be that of a base model. */
  async #adapterNamed(name: string, caller: Caller): Promise<AdapterManifest | null> {
    const found = await this.#options.aliases.adapterOf(name, caller.owner);
    if (found !== null) return await this.#adapterOf(found, caller);
    const parsed = parseFineTunedName(name);
    if (parsed === null) return null;
    if ('checkpoint' in parsed) throw unpublished(name, parsed.checkpoint);
    const manifest = await this.#adapterOf(parsed.adapter, caller);
    const { id, base_model: base } = manifest;
    // The suffix may be that of a name that the adapter or its job had before.
    if (isNameOf(name, { id, base_model: base.name })) return manifest;
    const fullName = fineTunedName({ ...manifest, base_model: base.name });
    throw new ProductError('model_not_found', `There is no model ${quoted(name)}. The name of ${id} is ${fullName}.`);
  }

  async #adapterOf(id: AdapterId, caller: Caller): Promise<AdapterManifest> {
    return await readManifest(this.#options.adapters, id, { isAllowed: (owner) => mayUse(caller, owner) });
  }

  /** Checks that a base model can generate text. */
  async #checkBase(name: string): Promise<void> {
    const { problem, family } = await this.#options.baseModels.describe(name);
    if (problem !== null) throw new ProductError('model_not_supported', `${name} cannot be used: ${problem.message}`);
    if (family === WITHOUT_TEXT) {
      throw new ProductError('model_not_supported', `${name} is a classifier of features and generates no text.`);
    }
  }
}

function baseModelOf(name: ModelName): OpenaiModel {
  return { id: name, object: 'model', created: 0, owned_by: NOBODY, parent: null };
}

function aliasModelOf({ name, owner, moved_at: movedAt, base_model: parent }: AliasSummary): OpenaiModel {
  const created = Math.floor(Date.parse(movedAt) / 1000);
  return { id: name, object: 'model', created, owned_by: owner ?? NOBODY, parent };
}

type ListedAdapter = Awaited<ReturnType<RegistryClient['newestAdapters']>>[number];

function adapterModelOf(
  adapter: Pick<ListedAdapter, 'id' | 'owner' | 'name' | 'created_at' | 'base_model'>,
): OpenaiModel {
  const { owner, created_at: createdAt, base_model: parent } = adapter;
  const created = Math.floor(Date.parse(createdAt) / 1000);
  return { id: fineTunedName(adapter), object: 'model', created, owned_by: owner ?? NOBODY, parent };
}

function unpublished(name: string, last: string): ProductError {
  const advice = last.startsWith('ckpt-step-')
    ? 'Publish the checkpoint first: POST /jobs/:id/checkpoints/:step/publish.'
    : 'A name with ft: ends with the id of an adapter; GET /v1/models lists them.';
  return new ProductError('model_not_found', `There is no model ${quoted(name)}. ${advice}`);
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 200));
}

/** Errors about a model name the field that has it. */
async function atModel<Result>(work: () => Promise<Result>): Promise<Result> {
  return await work().catch((error: unknown) => {
    if (!(error instanceof ProductError) || error.status >= 500) throw error;
    throw new ProductError(error.code, error.message, { param, details: error.details, cause: error });
  });
}

/** The name of the organization in the name of a model. */
const ORGANIZATION = 'lorasmith';
const MAX_SUFFIX_LENGTH = 40;

/**
 * The name of a fine-tuned model in the form of the OpenAI API: `ft:<base model>:lorasmith:<suffix>:<adapter id>`. The suffix
 * comes from the name of the job or the adapter, and is empty without one.
 */
export function fineTunedName({ id, base_model: base, name }: Pick<Adapter, 'id' | 'base_model' | 'name'>): string {
  return `${stem(base, name)}:${id}`;
}

/** True if a name is that of this adapter, whatever its suffix: an adapter keeps its id when it is renamed. */
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
