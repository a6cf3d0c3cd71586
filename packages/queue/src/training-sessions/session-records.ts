import { deserialize, serialize } from 'node:v8';
import type {
  AdapterId,
  CheckpointKind,
  ModelName,
  Owner,
  QueuedSessionOp,
  QueuedSessionResult,
  SessionModelDescription,
  SessionModelSpec,
  SnapshotId,
} from '@lorasmith/contracts';

/** The description that the client of a session gives of itself. */
export interface ClientRecord {
  tags: string[];
  sdk_version: string | null;
  project_id: string | null;
  user_metadata: Record<string, unknown>;
  /** ISO 8601. */
  created_at: string;
}

/** The session of a client. */
export interface ClientSession {
  id: string;
  owner: Owner;
  record: ClientRecord;
  /** Why it has ended; null: it has not. */
  ended: string | null;
}

/** The parts of which a model is made. */
export interface TrainedModelRecord {
  spec: SessionModelSpec;
  /** The saved adapter that it begins with; null: a new one. */
  initial: { adapter: AdapterId; withOptimizer: boolean; path: string } | null;
  user_metadata: Record<string, unknown>;
}

/**
 * The state of a model. `waiting`: for a worker; `open`: a worker has it; `parked`: it is kept in a store until its next op comes; `ended`: it
 * takes no ops any more.
 */
export type TrainedModelState = 'waiting' | 'open' | 'parked' | 'ended';

/** A model of a session. */
export interface TrainedModel {
  id: string;
  owner: Owner;
  session: string;
  record: TrainedModelRecord;
  state: TrainedModelState;
  /** The number of the last op that has a result; -1: it was not opened yet. */
  done: number;
  /** The snapshot that it is to be continued from; null: it begins anew. */
  parked: SnapshotId | null;
  described: SessionModelDescription | null;
  /** Why it has ended. */
  reason: string | null;
  /** Milliseconds since 1970. */
  created: number;
  /** When it got its last op, in milliseconds since 1970. */
  used: number;
}

/** A saved state of a model, which is an adapter. */
export interface SessionCheckpoint {
  kind: CheckpointKind;
  name: string;
  adapter: AdapterId;
  base_model: ModelName;
  /** ISO 8601. */
  created_at: string;
  /** ISO 8601; null: it stays. */
  expires_at: string | null;
  bytes: number;
  public: boolean;
  user_metadata: Record<string, unknown>;
}

/** The copy of a checkpoint, with the model that is made for it. */
export interface CheckpointCopy {
  owner: Owner;
  session: string;
  record: TrainedModelRecord;
  checkpoint: SessionCheckpoint;
  /** Why the model takes no ops. */
  reason: string;
}

export function hasExpired({ expires_at }: SessionCheckpoint): boolean {
  return expires_at !== null && Date.parse(expires_at) <= Date.now();
}

/** The number of the op that opens a model. */
export const OPENING = 0;

/** The id of the result of an op. */
export const resultId = (model: string, seq: number) => `${model}:${seq}`;

export function ownerOf(text: string | undefined): Owner {
  return text === undefined || text === '' ? null : (text as Owner);
}

/** @param fields of its hash; without any there is no such model */
export function modelOf(id: string, fields: Readonly<Record<string, string>>): TrainedModel | null {
  if (fields.record === undefined) return null;
  const textOf = (name: string) => (fields[name] === undefined || fields[name] === '' ? null : fields[name]);
  return {
    id,
    owner: ownerOf(fields.owner),
    session: fields.session ?? '',
    record: JSON.parse(fields.record) as TrainedModelRecord,
    state: fields.state as TrainedModelState,
    done: Number(fields.done),
    parked: textOf('parked') as SnapshotId | null,
    described: JSON.parse(textOf('described') ?? 'null') as SessionModelDescription | null,
    reason: textOf('reason'),
    created: Number(fields.created),
    used: Number(fields.used),
  };
}

export const bytesOfOp = (op: QueuedSessionOp): Buffer => serialize(op);
export const opOfBytes = (bytes: Buffer) => deserialize(bytes) as QueuedSessionOp;
export const bytesOfResult = (result: QueuedSessionResult): Buffer => serialize(result);
export const resultOfBytes = (bytes: Buffer) => deserialize(bytes) as QueuedSessionResult;
