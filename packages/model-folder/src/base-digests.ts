import { createHash } from 'node:crypto';
import type { AdapterManifest } from '@lorasmith/contracts';
import type { Architecture, DecoderArchitecture, Mixer, Mlp } from './architecture.js';
import { onLoad } from './base-quantization.js';
import { mixersOf } from './layer-kinds/mixers.js';
import { hasExperts } from './layer-kinds/mlps.js';
import type { ModelFolder } from './model-folder.js';
import type { WeightDigests } from './weights/weight-digests.js';

/** Identifies a base model in manifests and checkpoints. */
export type BaseDigests = Pick<AdapterManifest['base_model'], 'weights_sha256' | 'architecture_sha256'>;

/** @throws as WeightDigests.compute */
export async function digestBase(
  model: ModelFolder,
  digests: WeightDigests,
  options: { signal?: AbortSignal } = {},
): Promise<BaseDigests> {
  return {
    weights_sha256: await digests.compute(model, options),
    architecture_sha256: digestArchitecture(model.architecture),
  };
}

/** A base model by its name and digests, and the form in which it is computed with. */
export type BaseIdentity = BaseDigests & Pick<AdapterManifest['base_model'], 'name' | 'quantization'>;

/**
 * Explains why an adapter or checkpoint does not fit a base model: its name, weights or config.json differ. Properties that
 * `now` lacks are not compared.
 *
 * @param what - The subject of the sentence, for instance `ad_…` or `The checkpoint of step 50`.
 * @returns a sentence, or null if it fits
 */
export function baseMismatch(what: string, made: BaseIdentity, now: Partial<BaseIdentity>): string | null {
  const differs = (field: Exclude<keyof BaseIdentity, 'quantization'>) =>
    now[field] !== undefined && now[field] !== made[field];
  if (differs('name')) return `${what} was made for the base model ${made.name}, not for ${now.name}.`;
  if (differs('weights_sha256')) {
    return `${what} was made for other weights of ${made.name}, with the sha256 ${made.weights_sha256}; those on this host have ${now.weights_sha256}. Restore the original weights.`;
  }
  if (differs('architecture_sha256')) {
    return `${what} was made for another config.json of ${made.name}, which describes another architecture. Restore the original config.json.`;
  }
  if (now.quantization === undefined || onLoad(now.quantization) === onLoad(made.quantization)) return null;
  return `${what} was made for ${made.name} with base_quantization "${onLoad(made.quantization)}", not "${onLoad(now.quantization)}": use the same training.base_quantization.`;
}

/** Fields that do not change the model's outputs: they affect tokenization, the end of a text, or warnings. */
const IGNORED_FIELDS = ['bosTokenId', 'eosTokenIds', 'padTokenId', 'maxPositions', 'ignoredDropout'];

/**
 * A digest of the settings that affect the model's outputs, such as the norm's epsilon or the rotary positions.
 *
 * Checkpoints and manifests store the digest, so every release must compute the same one. Keys are sorted, and null counts
 * as absent: when you add a field, let null mean the previous behaviour.
 *
 * @returns sha256, hexadecimal
 */
export function digestArchitecture(architecture: Architecture): string {
  const described = architecture.kind === 'decoder' ? inDigestedForm(architecture) : architecture;
  const included = Object.fromEntries(Object.entries(described).filter(([field]) => !IGNORED_FIELDS.includes(field)));
  const canonical = JSON.stringify(included, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    const fields = Object.entries(node).filter(([, value]) => value !== null);
    return Object.fromEntries(fields.sort(([one], [other]) => (one < other ? -1 : 1)));
  });
  return createHash('sha256').update(canonical).digest('hex');
}

/**
 * A decoder in the form that digests are made of: the settings of latent and of linear attention and of experts once for all layers, and
 * in each layer those of scores, also where linear attention does not read them. A mixer or MLP of a later kind is there as it is.
 */
function inDigestedForm(architecture: DecoderArchitecture): object {
  const { layers, attention, mlp, ...others } = architecture;
  const ofLayer = (mixer: Mixer): object => {
    switch (mixer.kind) {
      case 'attention':
        return without(mixer, ['kind']);
      case 'latent':
        return { scale: mixer.scale, window: mixer.window, rope: mixer.rope };
      case 'linear':
        return { scale: 1 / Math.sqrt(others.headDim), window: null, rope: 0 };
      default:
        return mixer;
    }
  };
  const [latent] = mixersOf(architecture, 'latent');
  const [linear] = mixersOf(architecture, 'linear');
  const [experts] = layers.flatMap((layer) => (hasExperts(layer.mlp) ? [layer.mlp.experts] : []));
  return {
    ...others,
    attention: { ...attention, layers: layers.map((layer) => ({ ...ofLayer(layer.mixer), ...ofLaterMlp(layer.mlp) })) },
    mlp: { ...mlp, ...digestedWidths(architecture) },
    experts: experts && { ...experts, layers: layers.map((layer) => hasExperts(layer.mlp)) },
    latentAttention: latent && without(latent, ['kind', 'scale', 'window', 'rope']),
    linearAttention: linear && {
      ...without(linear, ['kind']),
      layers: layers.map(({ mixer }) => mixer.kind === 'linear'),
    },
  };
}

/** An MLP of a kind that was not yet there when digests were first made; nothing of the others. */
function ofLaterMlp(mlp: Mlp): object {
  switch (mlp.kind) {
    case 'dense':
    case 'sparse':
    case 'beside':
      return {};
    default:
      return { mlp };
  }
}

/** The widths that MLPs have of their own: the layer from which on all are twice as wide as usual, or those of all layers. */
function digestedWidths({ layers, intermediateSize: usual }: DecoderArchitecture): object {
  const widths = layers.map(({ mlp }) => ('intermediateSize' in mlp ? (mlp.intermediateSize ?? null) : null));
  const first = widths.findIndex((width) => width !== null);
  if (first === -1) return {};
  return widths.slice(first).every((width) => width === 2 * usual) ? { doubledFrom: first } : { widths };
}

function without(fields: object, names: readonly string[]): object {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}
