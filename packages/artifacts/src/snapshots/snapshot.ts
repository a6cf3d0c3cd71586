import {
  AdapterManifest,
  checkNewRecord,
  checkRecordVersion,
  closed,
  ProductError,
  RECORD_VERSION,
  RecordVersion,
  type SnapshotId,
} from '@lorasmith/contracts';
import type { BundleStore, Staging } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

/** Its name beside the PEFT files of a snapshot. */
const SNAPSHOT_FILE = 'snapshot.json';

/** The file of a snapshot: the model that it is of. */
const SnapshotRecord = Type.Object(
  {
    version: RecordVersion,
    /** The id of the trained model. */
    model: Type.String(),
    base_model: AdapterManifest.properties.base_model,
    precision: Type.Enum(['float32', 'bfloat16']),
    created_at: Type.String(),
  },
  closed,
);
export type SnapshotRecord = Static<typeof SnapshotRecord>;

const schema = Compile(SnapshotRecord);

/**
 * Publishes PEFT files as the snapshot of a model in training, for what samples from it or continues it. Its session removes it.
 *
 * @param staging - A folder of the store of snapshots that has the files; it is consumed.
 * @throws ProductError `storage_full`, `storage_unavailable`
 */
export async function publishSnapshot(
  snapshots: BundleStore,
  staging: Staging,
  id: SnapshotId,
  described: Omit<SnapshotRecord, 'version' | 'created_at'>,
): Promise<void> {
  try {
    const record: SnapshotRecord = { version: RECORD_VERSION, ...described, created_at: new Date().toISOString() };
    checkNewRecord(schema, record, `The snapshot ${id}`);
    await staging.write(SNAPSHOT_FILE, [Buffer.from(JSON.stringify(record))]);
    // One with its id is of the same call, and stays.
    await snapshots.publish(staging, id);
  } finally {
    await staging.discard();
  }
}

/** @throws ProductError `adapter_not_found` once it is removed; `invalid_adapter`, `unsupported_version`, `storage_unavailable` */
export async function readSnapshot(snapshots: BundleStore, id: SnapshotId): Promise<SnapshotRecord> {
  const record = await snapshots.readJson(id, SNAPSHOT_FILE).catch((error: unknown) => {
    if (error instanceof ProductError && error.code === 'not_found') throw snapshotNotFound(id);
    throw error;
  });
  checkRecordVersion(record, `The snapshot ${id}`);
  if (!schema.Check(record)) throw new ProductError('invalid_adapter', `The snapshot ${id} is damaged.`);
  return record;
}

function snapshotNotFound(id: SnapshotId): ProductError {
  const message = `The snapshot ${id} is removed: its session has ended, or has newer ones. Make a new sampling client.`;
  return new ProductError('adapter_not_found', message);
}
