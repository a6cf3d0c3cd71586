import { createHash } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { adapterCard, derivedCard } from '@lorasmith/artifacts';
import { ADAPTER_FILES, type AdapterFile, type AdapterManifest } from '@lorasmith/contracts';
import { withBaseModelName } from '@lorasmith/peft-files';
import { type BundleContent, isWeightsFile } from './download-content.js';

/** The files of a download, some of which are other texts than in its bundle. */
export interface NamedFiles {
  files: readonly AdapterFile[];
  /** The other texts, by the names of their files. */
  texts: ReadonlyMap<string, Buffer>;
}

/**
 * The files of a bundle whose texts name the repository `baseModel` as the base model: PEFT's config, the model card, and the digests of
 * both in the manifest. Null: the files as they are stored.
 *
 * @throws ProductError `not_found` if the bundle was deleted; `invalid_adapter` if its config cannot be read
 */
export async function nameBaseModel(
  { store, id, files }: BundleContent,
  manifest: AdapterManifest,
  baseModel: string | null,
): Promise<NamedFiles> {
  if (baseModel === null) return { files, texts: new Map() };
  const { origin, ...base } = manifest.base_model;
  const named: AdapterManifest = { ...manifest, base_model: { ...base, name: baseModel } };
  // A commit of another repository says nothing about this one.
  const revision = origin?.repo === baseModel ? origin.commit : null;
  const texts = new Map<string, Buffer>();
  const current = (file: AdapterFile) => fileOf(file, texts.get(file.name));
  for (const { name } of files) {
    if (name === ADAPTER_FILES.config) {
      const config = await text(await store.read(id, name));
      texts.set(name, Buffer.from(withBaseModelName(config, { name: baseModel, revision })));
    }
    if (name === ADAPTER_FILES.card) texts.set(name, Buffer.from(cardOf(named, files)));
  }
  if (files.some(({ name }) => name === ADAPTER_FILES.manifest)) {
    const changed: AdapterManifest = { ...manifest, files: manifest.files.map(current) };
    texts.set(ADAPTER_FILES.manifest, Buffer.from(`${JSON.stringify(changed, null, 2)}\n`));
  }
  return { files: files.map(current), texts };
}

function cardOf(named: AdapterManifest, files: readonly AdapterFile[]): string {
  if (files.some(({ name }) => name === ADAPTER_FILES.config)) return adapterCard(named);
  return derivedCard(named, files.find(({ name }) => isWeightsFile(name))?.name ?? '');
}

function fileOf(file: AdapterFile, content: Buffer | undefined): AdapterFile {
  if (content === undefined) return file;
  const sha256 = createHash('sha256').update(content).digest('hex');
  return { name: file.name, bytes: content.byteLength, sha256 };
}
