import { join } from 'node:path';
import type { AdapterChecks, AdapterManifest, AdapterProbe } from '@lorasmith/contracts';
import { ADAPTER_FILES, ProductError } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { BaseModel } from '@lorasmith/models';
import { manifestLora, type PeftAdapter, writePeftFolder } from '@lorasmith/peft-files';
import { digestFile } from '@lorasmith/storage';
import { yieldToEventLoop } from '../stop.js';
import { checkDifference } from './check-failed.js';
import { logSoftmax, type Matrix, rmsDifference, rmsSpread } from './log-probabilities.js';
import { MergedModel, mergedLayers } from './merged-model.js';
import { type ProbeRun, prepareProbe } from './probe-run.js';
import { readBack } from './read-back.js';
import { mergedBound, roundingBound } from './rounding-bounds.js';

export interface CheckedAdapterOptions {
  base: BaseModel;
  /** The base's folder. */
  model: ModelFolder;
  adapter: LoraAdapter;
  /** Receives the PEFT files. It must exist, and nobody reads it yet. */
  outputFolder: string;
  signal: AbortSignal;
}

/** What the manifest says of an adapter that was written and checked. */
export interface CheckedAdapter {
  lora: AdapterManifest['lora'];
  probe: AdapterProbe;
  checks: AdapterChecks;
  /** The files that were checked, with their digests. */
  files: AdapterManifest['files'];
}

/**
 * Writes the PEFT files of an adapter and checks them. Trained numbers become an adapter in no other way. The checks:
 * every number is finite; the files hold what was trained; base and adapter as read from the files give the same
 * log-probabilities as base and adapter in memory; so does the merged model, up to rounding.
 *
 * Costs four forward passes of some 200 tokens and one merge. Between them the event loop gets its turn.
 *
 * @throws ProductError non_finite_loss, merge_not_finite, adapter_check_failed naming what differs and by how much;
 * cancelled. The content of the output folder must then be discarded.
 */
export async function writeCheckedAdapter(options: CheckedAdapterOptions): Promise<CheckedAdapter> {
  const { base, model, adapter, outputFolder, signal } = options;
  const { architecture } = base;
  const trained = adapter.toPeft(model.name);
  const meant = await writePeftFolder(outputFolder, trained, model);
  const files = await digests(outputFolder);
  const read = await readBack(outputFolder, trained, meant);
  const probe = await prepareProbe(base, model);
  await yieldToEventLoop(signal);

  const inMemory = finite(probe.logits([{ adapter }]), 'The base with the trained adapter');
  await yieldToEventLoop(signal);
  const alone = probe.logits([]);
  await yieldToEventLoop(signal);
  const logprobs = logSoftmax(inMemory);
  const adapterDifference = rmsDifference(logSoftmax(alone), logprobs);
  const size = rmsSpread(alone) + adapterDifference;

  const fromFiles = logitsWith(read.trained, base, probe);
  await yieldToEventLoop(signal);
  const readBackBound = read.exact ? 0 : roundingBound(architecture, [base.dtype], size);
  const readBackDifference = read.exact
    ? bitDifference(fromFiles, inMemory)
    : rmsDifference(logSoftmax(fromFiles), logprobs);
  checkDifference('read from its files', readBackDifference, readBackBound);

  const stored = mergedLayers(read.written, model);
  const asMerged = new MergedModel(adapter, stored);
  const merged = finite(probe.logits([{ adapter: asMerged }]), 'The merged model');
  await yieldToEventLoop(signal);
  const dtypes = new Set([...stored.values()].map(({ storedDtype }) => storedDtype));
  const mergedDifference = rmsDifference(logSoftmax(merged), logprobs);
  const bound = mergedBound(
    roundingBound(architecture, [base.dtype, ...dtypes], size),
    asMerged.rounding,
    adapterDifference,
  );
  checkDifference('merged into its base', mergedDifference, bound);

  return {
    lora: manifestLora(trained, meant),
    probe: probe.record(alone, inMemory),
    files,
    checks: {
      logprobs: inMemory.values.length,
      adapter_difference: adapterDifference,
      read_back_difference: readBackDifference,
      read_back_bound: readBackBound,
      merged_difference: mergedDifference,
      merged_bound: bound,
      merged_dtype: [...dtypes].sort().join(', '),
    },
  };
}

async function digests(folder: string): Promise<AdapterManifest['files']> {
  const files: AdapterManifest['files'] = [];
  for (const name of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
    files.push({ name, ...(await digestFile(join(folder, name))) });
  }
  return files;
}

function logitsWith(adapter: PeftAdapter, base: BaseModel, probe: ProbeRun): Matrix {
  const targets = [...adapter.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
  const again = new LoraAdapter(base.groups, { targets, dropout: 0, seed: 0, initial: adapter });
  try {
    return probe.logits([{ adapter: again }]);
  } finally {
    again.dispose();
  }
}

function finite(logits: Matrix, what: string): Matrix {
  if (logits.values.every(Number.isFinite)) return logits;
  const message = `${what} gives numbers that are not finite for the probe. Train with a lower learning_rate.`;
  throw new ProductError('non_finite_loss', message);
}

/** 0 when all numbers are the same; otherwise the greatest difference. */
function bitDifference(one: Matrix, other: Matrix): number {
  let greatest = 0;
  for (let i = 0; i < one.values.length; i++) {
    greatest = Math.max(greatest, Math.abs(one.values[i]! - other.values[i]!));
  }
  return greatest;
}
