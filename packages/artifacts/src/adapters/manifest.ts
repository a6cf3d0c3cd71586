import { open } from 'node:fs/promises';
import path from 'node:path';
import {
  ADAPTER_FILES,
  AdapterId,
  AdapterManifest,
  checkNewRecord,
  checkRecordVersion,
  type Owner,
  ProductError,
  RECORD_VERSION,
} from '@lorasmith/contracts';
import {
  type BundleStore,
  type Digest,
  type Listing,
  readJsonFrom,
  type Staging,
  totalBytes,
} from '@lorasmith/storage';
import { Compile } from 'typebox/compile';
import { adapterCard } from './model-card.js';

const idSchema = Compile(AdapterId);
const manifestSchema = Compile(AdapterManifest);

export interface ReadManifestOptions {
  /**
   * Called with the owner before the rest is checked. On false, the answer is that of an adapter that does not exist.
   * @defaultValue every owner is accepted
   */
  isAllowed?: (owner: Owner | undefined) => boolean;
}

/**
 * Reads the manifest of a published adapter.
 * @throws ProductError `adapter_not_found`; `invalid_adapter` when it is broken; `unsupported_version`; `storage_unavailable`
 */
export async function readManifest(
  adapters: Pick<BundleStore, 'has' | 'readJson'>,
  id: string,
  { isAllowed = () => true }: ReadManifestOptions = {},
): Promise<AdapterManifest> {
  if (!idSchema.Check(id)) throw adapterNotFound(id);
  const manifest = await adapters.readJson(id, ADAPTER_FILES.manifest).catch(async (error: unknown) => {
    if (!isUnreadable(error)) throw error;
    if (!(await adapters.has(id))) throw adapterNotFound(id);
    throw brokenAdapter(id, `${ADAPTER_FILES.manifest} is missing or cannot be read`, error);
  });
  if (!isAllowed((manifest as Partial<AdapterManifest> | null)?.owner)) throw adapterNotFound(id);
  return checkedManifest(manifest, id);
}

/**
 * Reads the manifest beside the PEFT files of a local folder.
 * @returns null for a folder without one
 * @throws ProductError `invalid_adapter`; `unsupported_version`
 */
export async function readManifestOfFolder(folder: string): Promise<AdapterManifest | null> {
  const handle = await open(path.join(folder, ADAPTER_FILES.manifest)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (handle === null) return null;
  const id = path.basename(folder);
  let manifest: unknown;
  try {
    manifest = await readJsonFrom(handle);
  } catch (cause) {
    throw brokenAdapter(id, `${ADAPTER_FILES.manifest} cannot be read (${(cause as Error).message})`, cause);
  } finally {
    await handle.close();
  }
  return checkedManifest(manifest, id, { isNamed: false });
}

/**
 * Writes the manifest of a new adapter into its staged folder, checked as its readers check it, and the model card that it lists.
 * @param manifest - Without what this function adds: version, kind of object, the time and the card.
 * @returns the manifest as it is written, and the digest of its file
 * @throws ProductError `storage_full`; `internal_error` when it could not be read again
 */
export async function writeManifest(
  staging: Staging,
  manifest: Omit<AdapterManifest, 'version' | 'object' | 'created_at'>,
): Promise<{ manifest: AdapterManifest; digest: Digest }> {
  const { id, owner, name, files, ...rest } = manifest;
  const written: AdapterManifest = {
    version: RECORD_VERSION,
    id,
    object: 'adapter',
    owner,
    name,
    created_at: new Date().toISOString(),
    ...rest,
    files: [...files],
  };
  checkNewRecord(manifestSchema, written, `The manifest of ${id}`);
  const card = await staging.write(ADAPTER_FILES.card, [Buffer.from(adapterCard(manifest))]);
  written.files.push({ name: ADAPTER_FILES.card, ...card });
  const content = Buffer.from(`${JSON.stringify(written, null, 2)}\n`);
  return { manifest: written, digest: await staging.write(ADAPTER_FILES.manifest, [content]) };
}

/** The entry of an adapter in the index of the store. Its bytes are those of the files that the manifest lists, and of the optimizer. */
export function listingOf({ owner, created_at, files, origin }: AdapterManifest): Listing {
  const optimizer = origin.kind === 'session' ? (origin.optimizer?.bytes ?? 0) : 0;
  return { owner, created_at, bytes: totalBytes(files) + optimizer };
}

/** The answer for an adapter that does not exist, or that the caller may not use. */
export function adapterNotFound(id: string): ProductError {
  return new ProductError('adapter_not_found', `There is no adapter ${JSON.stringify(id.slice(0, 64))}.`);
}

/** The error of an adapter whose files are not what its manifest says. */
export function brokenAdapter(id: string, fault: string, cause?: unknown): ProductError {
  const message = `Adapter ${id} is damaged on disk: ${fault}. Restore it from a backup, or delete it.`;
  return new ProductError('invalid_adapter', message, { cause });
}

/** @param options.isNamed - Whether `id` is the id under which the adapter is published. */
function checkedManifest(manifest: unknown, id: string, { isNamed = true } = {}): AdapterManifest {
  checkRecordVersion(manifest, `The manifest of ${id}`);
  if (!manifestSchema.Check(manifest)) {
    const [fault] = manifestSchema.Errors(manifest);
    throw brokenAdapter(id, `${ADAPTER_FILES.manifest} is not a manifest (${fault?.instancePath} ${fault?.message})`);
  }
  if (isNamed && manifest.id !== id)
    throw brokenAdapter(id, `${ADAPTER_FILES.manifest} is the manifest of ${manifest.id}`);
  if (Number.isNaN(Date.parse(manifest.created_at)))
    throw brokenAdapter(id, 'created_at in its manifest is not a date');
  return manifest;
}

/** True if the file is missing, too large or not JSON; any other error is one of the store. */
function isUnreadable(error: unknown): boolean {
  return error instanceof ProductError && (error.code === 'not_found' || error.code === 'internal_error');
}
