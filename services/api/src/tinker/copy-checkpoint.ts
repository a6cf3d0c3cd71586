import { createHash } from 'node:crypto';
import { brokenAdapter, listingOf, readManifest, writeManifest } from '@lorasmith/artifacts';
import { ADAPTER_FILES, type AdapterId, type AdapterManifest, type Owner, ProductError } from '@lorasmith/contracts';
import { OPENING, type SessionCheckpoint, type TrainedModel, type TrainingSessionStore } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import { checkpointAdapterId, pathOf } from './tinker-names.js';

const REASON = 'It holds the copy of a checkpoint, and cannot be trained. Create a training client from the copy.';

/** The id of the session that holds a copy for which the client names none; the same for a call that is sent again. */
export function sessionOfCopy(owner: Owner, key: string): string {
  return createHash('sha256')
    .update(JSON.stringify([owner, key]))
    .digest('hex')
    .slice(0, 32);
}

/**
 * Copies a checkpoint with its adapter. The copy belongs to a new model, which has ended. Done again, it makes nothing more.
 * @returns the path of the copy
 * @throws ProductError `invalid_request` if there is another model with that id; `adapter_not_found`, `invalid_adapter`, `storage_full`,
 * `storage_unavailable`
 */
export async function copyCheckpoint(
  { store, adapters }: { store: TrainingSessionStore; adapters: BundleStore },
  source: { model: TrainedModel; checkpoint: SessionCheckpoint },
  { id, session, owner, expires_at }: { id: string; session: string; owner: Owner; expires_at: string | null },
): Promise<string> {
  const { kind, name } = source.checkpoint;
  const there = await store.model(id);
  if (there !== null && there.reason !== REASON) {
    throw new ProductError('invalid_request', `There is a model ${id}. Choose another number for the copy.`);
  }
  const adapter = checkpointAdapterId(id, OPENING);
  const { bytes, created_at } = await copyAdapter(adapters, source.checkpoint.adapter, (manifest) => ({
    ...manifest,
    id: adapter,
    owner,
    origin:
      manifest.origin.kind === 'session'
        ? { ...manifest.origin, model: id, checkpoint: `${kind}/${name}` }
        : manifest.origin,
  }));
  const { record } = source.model;
  const checkpoint = { ...source.checkpoint, adapter, bytes, created_at, expires_at, public: false };
  // Last: a copy that died before this is made again by the same call.
  await store.addCopy(id, { owner, session, record, checkpoint, reason: REASON });
  return pathOf({ model: id, kind, name });
}

/** Publishes a copy of an adapter, unless it is there. @param changed - The manifest of the copy. */
async function copyAdapter(
  adapters: BundleStore,
  from: AdapterId,
  changed: (manifest: AdapterManifest) => AdapterManifest,
): Promise<{ bytes: number; created_at: string }> {
  const found = await readManifest(adapters, from);
  const { created_at: _time, version: _version, object: _object, ...described } = changed(found);
  const files = found.files.filter(({ name }) => name !== ADAPTER_FILES.card);
  const optimizer = found.origin.kind === 'session' ? found.origin.optimizer : null;
  const staging = await adapters.stage();
  try {
    for (const { name, sha256 } of optimizer === null ? files : [...files, optimizer]) {
      const copied = await staging.write(name, await adapters.read(from, name));
      if (copied.sha256 !== sha256) throw brokenAdapter(from, `${name} is not as it was saved`);
    }
    const { manifest } = await writeManifest(staging, { ...described, files });
    const listing = listingOf(manifest);
    await adapters.publish(staging, described.id, listing);
    return { bytes: listing.bytes, created_at: manifest.created_at };
  } finally {
    await staging.discard();
  }
}
