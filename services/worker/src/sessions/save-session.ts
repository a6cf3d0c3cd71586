import { listingOf, publishSnapshot, writeManifest } from '@lorasmith/artifacts';
import {
  type AdapterId,
  type CheckpointKind,
  newIdentifier,
  type SessionFailure,
  type SessionOrigin,
  type SnapshotId,
} from '@lorasmith/contracts';
import type { TrainedModel } from '@lorasmith/queue';
import { type BundleStore, totalBytes } from '@lorasmith/storage';
import type { OpenSession } from '../trainer/trainer-session.js';

/** The checkpoint of a model that is to be made. */
export interface NewCheckpoint {
  /** It follows from the call, so that the call done twice makes one adapter. */
  adapter: AdapterId;
  kind: CheckpointKind;
  name: string;
  withOptimizer: boolean;
}

/**
 * Saves the model as it is as an adapter of ours, checked as every adapter.
 * @returns its bytes, with the optimizer's, and the steps that it has had
 * @throws ProductError `storage_full`, `storage_unavailable`
 */
export async function saveCheckpoint(
  adapters: BundleStore,
  { id: model, owner, record }: TrainedModel,
  session: OpenSession,
  { adapter: id, kind, name, withOptimizer }: NewCheckpoint,
): Promise<{ kind: 'saved'; bytes: number; steps: number } | SessionFailure> {
  const staging = await adapters.stage();
  try {
    const saving = { folder: staging.path, withOptimizer, withGradient: false, isEphemeral: false };
    const result = await session.do({ kind: 'save', ...saving });
    if (result.kind === 'failed') return result;
    if (result.kind !== 'saved' || result.outcome.checked === null) throw new Error('The trainer saved no adapter');
    const { base_model, lora, versions, files, checked, optimizerFile, steps } = result.outcome;
    const origin: SessionOrigin = {
      kind: 'session',
      model,
      checkpoint: `${kind}/${name}`,
      steps,
      settings: record.spec,
      precision: session.described.precision,
      optimizer: optimizerFile,
      ...checked,
    };
    const described = { id, owner, name, origin, base_model, lora, versions, files };
    const { manifest } = await writeManifest(staging, described);
    const listing = listingOf(manifest);
    // One with its id is of the same call, and stays.
    await adapters.publish(staging, id, listing);
    return { kind: 'saved', bytes: listing.bytes, steps };
  } finally {
    await staging.discard();
  }
}

/**
 * Saves the model as it is as a snapshot, which only this product reads.
 * @param whole - True: with optimizer and gradient, to be continued. False: to sample from.
 * @throws ProductError `storage_full`, `storage_unavailable`
 */
export async function saveSnapshot(
  snapshots: BundleStore,
  { id: model }: TrainedModel,
  session: OpenSession,
  { id, whole }: { id: SnapshotId; whole: boolean },
): Promise<{ kind: 'saved'; bytes: number; steps: number } | SessionFailure> {
  const staging = await snapshots.stage();
  try {
    const saving = { folder: staging.path, withOptimizer: whole, withGradient: whole, isEphemeral: true };
    const result = await session.do({ kind: 'save', ...saving });
    if (result.kind === 'failed') return result;
    if (result.kind !== 'saved') throw new Error('The trainer saved no snapshot');
    const { base_model, files, optimizerFile, steps } = result.outcome;
    await publishSnapshot(snapshots, staging, id, { model, base_model, precision: session.described.precision });
    return { kind: 'saved', bytes: totalBytes(optimizerFile === null ? files : [...files, optimizerFile]), steps };
  } finally {
    await staging.discard();
  }
}

export const newSnapshotId = (): SnapshotId => newIdentifier('sn');
