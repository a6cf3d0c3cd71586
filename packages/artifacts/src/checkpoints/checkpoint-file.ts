import { createHash, type Hash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import {
  checkRecordVersion,
  type Evaluation,
  RECORD_VERSION,
  type SampleRound,
  type TrainingOutcome,
} from '@lorasmith/contracts';
import { systemErrorCode, writeWithinSpace } from '@lorasmith/storage';
import {
  openSafetensors,
  SafetensorsError,
  type SafetensorsFile,
  toFloat32,
  writeSafetensors,
} from '@lorasmith/weight-files';
import type { Rollout } from './run-inputs.js';

/** Everything a run needs to continue as if it had not been interrupted. Random numbers follow from seed and step. */
export interface CheckpointState {
  /** Optimizer steps done. */
  step: number;
  /** `[parameters]` each, in the layout of the adapter. */
  parameters: Float32Array;
  /** Bytes where the optimizer keeps its moments in 8 bits. */
  firstMoment: Float32Array | Uint8Array;
  secondMoment: Float32Array | Uint8Array;
  /** One per step done. */
  losses: Float32Array;
  accuracies: Float32Array;
  /** The sampled answers that the next step trains on; null where it samples them. */
  rollout: Rollout | null;
  progress: CheckpointProgress;
}

/** The header of a file: what is known without reading its tensors. */
export interface CheckpointProgress {
  /** Digest of everything that the run depends on, its precision too. Only a checkpoint of the same run is resumed. */
  run: string;
  /** The same part by part, to say why a checkpoint cannot be resumed. */
  parts: Record<string, string>;
  tokens: number;
  trainedTokens: number;
  seconds: number;
  /** Passes over the data so far. */
  epoch: number;
  trainLoss: number;
  evaluationBefore: Evaluation | null;
  /** The evaluation at this step, if there was one. */
  evaluation: Evaluation | null;
  evaluations: EvaluationProgress;
  /** The answers to the job's prompts so far. */
  samples: SampleRound[];
  adapter: CheckpointAdapter;
}

/** The course of the evaluations so far. */
export interface EvaluationProgress {
  /** The lowest loss of all, and where it was. */
  best: { step: number; evaluation: Evaluation } | null;
  /** The loss that the next ones must be lower than, for early stopping. */
  reference: number | null;
  /** Evaluations since then that were not. */
  withoutGain: number;
}

/** Everything that makes an adapter of the parameters, without the data they were trained on. */
export interface CheckpointAdapter
  extends Pick<TrainingOutcome, 'base_model' | 'dataset' | 'validation_dataset' | 'report'> {
  /** The adapted layers. */
  targets: { name: string; rank: number; scale: number }[];
}

/** The facts about a checkpoint that are known without reading its tensors. */
export interface CheckpointDescription {
  step: number;
  bytes: number;
  savedAt: Date;
  progress: CheckpointProgress;
}

/** More than a header has without `progress`, whose quotes are escaped there, and the rest of a page. */
const HEADER_BYTES = 8_192;

/** Bytes hashed between two turns of the event loop. */
const HASHED_PIECE_BYTES = 2 ** 26;

/**
 * Writes a checkpoint with one rename: a reader sees all of it or nothing. A disk that is too full for it is not filled with
 * a part of it.
 *
 * @throws ProductError `storage_full`
 */
export async function writeCheckpoint(file: string, checkpoint: CheckpointState): Promise<void> {
  const tensor = (name: string, values: Float32Array | Uint8Array) => ({
    name,
    dtype: values instanceof Uint8Array ? ('U8' as const) : ('F32' as const),
    shape: [values.length],
    data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  });
  const head = { step: String(checkpoint.step), progress: JSON.stringify(checkpoint.progress) };
  const tensors = [
    tensor('parameters', checkpoint.parameters),
    tensor('first_moment', checkpoint.firstMoment),
    tensor('second_moment', checkpoint.secondMoment),
    tensor('losses', checkpoint.losses),
    tensor('accuracies', checkpoint.accuracies),
    ...(checkpoint.rollout === null ? [] : [tensor('rollout', Buffer.from(JSON.stringify(checkpoint.rollout)))]),
  ];
  const hash = hashOf(head);
  for (const { data } of tensors) await addTo(hash, data);
  const metadata = { version: String(RECORD_VERSION), ...head, sha256: hash.digest('hex') };
  const bytes = tensors.reduce((sum, { data }) => sum + data.byteLength, HEADER_BYTES + 2 * head.progress.length);
  await writeWithinSpace(dirname(file), bytes, () => writeSafetensors(file, tensors, metadata));
}

/** @returns null when the file is damaged, for instance truncated */
export async function readCheckpoint(file: string): Promise<CheckpointState | null> {
  return await reading(file, async (opened) => {
    const { metadata } = opened;
    const hash = hashOf({ step: metadata.get('step'), progress: metadata.get('progress') });
    const bytesOf = async (name: string) => {
      const bytes = await opened.read(name);
      await addTo(hash, bytes);
      return bytes;
    };
    const values = async (name: string) => toFloat32(await bytesOf(name), 'F32');
    const moment = async (name: string) =>
      opened.tensors.get(name)?.dtype === 'U8' ? await bytesOf(name) : await values(name);
    const checkpoint = {
      ...headOf(opened),
      parameters: await values('parameters'),
      firstMoment: await moment('first_moment'),
      secondMoment: await moment('second_moment'),
      losses: await values('losses'),
      accuracies: await values('accuracies'),
      rollout: opened.tensors.has('rollout')
        ? (JSON.parse(Buffer.from(await bytesOf('rollout')).toString()) as Rollout)
        : null,
    };
    return hash.digest('hex') === metadata.get('sha256') ? checkpoint : null;
  });
}

function hashOf(head: { step: string | undefined; progress: string | undefined }): Hash {
  return createHash('sha256').update(`${head.step}\n${head.progress}\n`);
}

async function addTo(hash: Hash, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength; done += HASHED_PIECE_BYTES) {
    hash.update(bytes.subarray(done, done + HASHED_PIECE_BYTES));
    await setImmediate();
  }
}

/** @returns null when the file is damaged or missing */
export async function describeCheckpoint(file: string): Promise<CheckpointDescription | null> {
  return await reading(file, async (opened) => {
    const { size, mtime } = await stat(file);
    return { ...headOf(opened), bytes: size, savedAt: mtime };
  });
}

async function reading<Result>(
  file: string,
  read: (opened: SafetensorsFile) => Promise<Result>,
): Promise<Result | null> {
  try {
    const opened = await openSafetensors(file);
    try {
      return await read(opened);
    } finally {
      await opened.close();
    }
  } catch (error) {
    // The caller uses an older one.
    if (error instanceof SafetensorsError || error instanceof SyntaxError) return null;
    // A newer one may have replaced it meanwhile.
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function headOf({ metadata }: SafetensorsFile): { step: number; progress: CheckpointProgress } {
  const step = Number(metadata.get('step'));
  const version = metadata.get('version');
  if (version === undefined) throw new SyntaxError('the header has no version');
  checkRecordVersion({ version: Number(version) }, `The checkpoint of step ${step}`);
  return { step, progress: JSON.parse(metadata.get('progress') ?? '') as CheckpointProgress };
}
