import { createHash } from 'node:crypto';
import { ADAPTER_FILES, AdapterId, type HubTarget, ProductError } from '@lorasmith/contracts';
import type { HubSettings } from '@lorasmith/hub';
import { type PushedFile, pushToHub } from '@lorasmith/hub/push';
import { Value } from 'typebox/value';
import type { HubTokens } from '../../access/hub-tokens.js';
import type { AdapterForm, AdapterSource } from '../adapter-source.js';
import type { DeliveryAttempt, DeliveryConfig, DeliveryKind } from '../delivery-kind.js';

export interface HubKindOptions {
  hub: DeliveryConfig['hub'];
  tokens: Pick<HubTokens, 'checkConfigured' | 'describe' | 'tokenOf'>;
  source: AdapterSource;
  /** @defaultValue those of the hub's calls */
  timeouts?: Pick<HubSettings, 'stallMs' | 'retryMs'> | undefined;
}

const DEFAULT_BRANCH = 'main';
const TITLE = /^Deliver (ad_[0-9a-z]{24})( |$)/;
/** A config is far smaller; a larger one is not read into memory. */
const MAX_CONFIG_BYTES = 4 * 2 ** 20;
/** The fields in which libraries write where they found the base model. */
const NAMING_FIELDS: Readonly<Record<string, string>> = {
  'config.json': '_name_or_path',
  [ADAPTER_FILES.config]: 'base_model_name_or_path',
};
/** A path on somebody's machine. A repository has no such beginning, and one slash. */
const LOCAL_PATH = /^[/~.]|\\|:|\/.*\//;

/**
 * Delivers to the Hugging Face hub, in one commit, with the token of the adapter's owner. Texts name the base model by its repository
 * there, where that is known. The manifest does not go along: it has prompts of the dataset, and ids that mean nothing elsewhere.
 */
export function hubKind({ hub, tokens, source, timeouts = {} }: HubKindOptions): DeliveryKind<HubTarget> {
  const check = (): void => {
    if (hub.offline) {
      const message = 'This service delivers nothing to the hub: HF_HUB_OFFLINE is set.';
      throw new ProductError('invalid_delivery', message, { param: 'kind' });
    }
    tokens.checkConfigured();
  };
  return {
    placeOf: ({ repository, revision = DEFAULT_BRANCH }) => `hub ${repository.toLowerCase()} ${revision}`,
    check,
    checkAdapter: () => {},
    async checkOwner(_, owner, caller) {
      if (caller.owner !== owner) {
        const message =
          'This adapter goes to the hub with the token of its owner, so only a key of its owner can deliver it there.';
        throw new ProductError('invalid_delivery', message, { param: 'kind' });
      }
      if ((await tokens.describe(owner)).stored_at !== null) return;
      const message = 'There is no token of the hub. Store one that may write first (PUT /hub-token).';
      throw new ProductError('invalid_delivery', message, { param: 'kind' });
    },
    async deliver(target, { manifest, signal, report }: DeliveryAttempt) {
      const { repository, revision = DEFAULT_BRANCH, merged = false, private: isPrivate = true } = target;
      const { id, base_model, owner } = manifest;
      const token = await tokens.tokenOf(owner);
      const repo = base_model.origin?.repo;
      const form: AdapterForm = { merged, baseModel: repo };
      const named = (await source.files(id, form, signal)).filter(({ name }) => name !== ADAPTER_FILES.manifest);
      const files: PushedFile[] = [];
      for (const file of named) {
        const read: PushedFile['read'] = (span) => source.read(id, file.name, form, signal, span);
        files.push(await withoutLocalPath({ ...file, read }, repo ?? base_model.name));
      }
      const push = { repository, branch: revision, files, isPrivate, title: `Deliver ${id}${merged ? ' merged' : ''}` };
      const { titleBefore } = await pushToHub(push, { ...timeouts, endpoint: hub.endpoint, token }, signal);
      const [, before] = TITLE.exec(titleBefore ?? '') ?? [];
      report({ replaced: Value.Check(AdapterId, before) ? before : null });
    },
  };
}

/** A config that names no path at which somebody had the base model. */
async function withoutLocalPath(file: PushedFile, baseModel: string): Promise<PushedFile> {
  const field = NAMING_FIELDS[file.name];
  if (field === undefined || file.bytes === 0 || file.bytes > MAX_CONFIG_BYTES) return file;
  const chunks: Uint8Array[] = [];
  for await (const chunk of await file.read({ start: 0, end: file.bytes - 1 })) chunks.push(chunk);
  const config = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
  const named = config[field];
  if (typeof named !== 'string' || !LOCAL_PATH.test(named)) return file;
  const content = Buffer.from(`${JSON.stringify({ ...config, [field]: baseModel }, null, 2)}\n`);
  return {
    name: file.name,
    bytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
    read: async ({ start, end }) => oneChunk(content.subarray(start, end + 1)),
  };
}

async function* oneChunk(chunk: Uint8Array): AsyncGenerator<Uint8Array> {
  yield chunk;
}
