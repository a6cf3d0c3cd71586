import { createHash } from 'node:crypto';
import { type AdapterId, CHECKPOINT_KINDS, type CheckpointKind, ProductError } from '@lorasmith/contracts';

// The client computes some of these ids itself, so they are as it has them.

export const modelIdOf = (session: string, number: number) => `${session}:train:${number}`;
export const samplerIdOf = (session: string, number: number) => `${session}:sample:${number}`;

/** A result that is fetched later: of a call on a model, or of a call that samples. */
export interface FutureName {
  session: string;
  of: 'model' | 'sampler';
  /** The id of the model or the sampler. */
  id: string;
  seq: number;
}

/** The id by which the client fetches the result of a call. */
export const futureIdOf = (id: string, seq: number) => `${id}:${seq}`;

const FUTURE = /^(([0-9a-f]{32}):(train|sample):\d{1,10}):(\d{1,16})$/;
const RUN = /^([0-9a-f]{32}):(?:train|sample):\d{1,10}$/;

/** @returns null for what is no id of a result */
export function parseFuture(text: string): FutureName | null {
  const [, id, session, kind, seq] = FUTURE.exec(text) ?? [];
  if (id === undefined || session === undefined) return null;
  return { session, of: kind === 'train' ? 'model' : 'sampler', id, seq: Number(seq) };
}

/** The session of a model or a sampler; null for what is no id of one. */
export function sessionOf(id: string): string | null {
  return RUN.exec(id)?.[1] ?? null;
}

export interface CheckpointName {
  model: string;
  kind: CheckpointKind;
  name: string;
}

export const pathOf = ({ model, kind, name }: CheckpointName) => `tinker://${model}/${kind}/${name}`;

/** @throws ProductError `invalid_request` for a path that is none */
export function parsePath(path: string): CheckpointName {
  const [, model, kind, name] = /^tinker:\/\/([^/]{1,100})\/([^/]{1,30})\/([^/]{1,200})$/.exec(path) ?? [];
  if (model === undefined || name === undefined || !isCheckpointKind(kind)) {
    const message = `${JSON.stringify(path.slice(0, 200))} is no path: it must be tinker://model/kind/name, and the kind ${CHECKPOINT_KINDS.join(', ')}.`;
    throw new ProductError('invalid_request', message);
  }
  return { model, kind, name };
}

export function isCheckpointKind(text: string | undefined): text is CheckpointKind {
  return (CHECKPOINT_KINDS as readonly (string | undefined)[]).includes(text);
}

/** The adapter of a checkpoint. It follows from the call that saves it, so that the call sent twice makes one. */
export function checkpointAdapterId(model: string, seq: number): AdapterId {
  return `ad_${createHash('sha256').update(`${model}:${seq}`).digest('hex').slice(0, 24)}`;
}

/** The time at which a checkpoint with this time to live expires; null: it stays. */
export function expiryOf(seconds: number | null | undefined): string | null {
  return seconds == null ? null : new Date(Date.now() + seconds * 1_000).toISOString();
}
