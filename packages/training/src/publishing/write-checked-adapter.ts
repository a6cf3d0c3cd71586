import { join } from 'node:path';
import { ADAPTER_FILES, type AdapterChecks, type AdapterManifest, type AdapterProbe } from '@lorasmith/contracts';
import type { ModelFolder, ModelTexts } from '@lorasmith/model-folder';
import { type LoadedModel, LoraAdapter, type ModelAdapter } from '@lorasmith/models';
import { manifestLora, type PeftAdapter, writePeftFolder } from '@lorasmith/peft-files';
import { digestFile } from '@lorasmith/storage';
import { type InTimeSlice, throwIfStopped } from '../shared-pass/engine-time.js';
import { type MergedLayer, MergedModel, mergedLayers, RecordedAdapter } from './merged-model.js';
import { checkFinite, compareProbe, type ProbeComparison, type ProbedAdapter } from './probe-comparison.js';
import { type ProbeOutputs, type ProbeRun, prepareProbe, rmsDifference, rmsSpread } from './probe-run.js';
import { readBack } from './read-back.js';
import { checkFailed, mergedBound, roundingBound } from './rounding-bounds.js';

export interface CheckedAdapterOptions {
  base: LoadedModel;
  /** The base's folder. */
  model: ModelFolder;
  adapter: LoraAdapter;
  /** Receives the PEFT files. It must exist, and nobody reads it yet. */
  outputFolder: string;
  texts: ModelTexts;
  /** Gives each pass an engine call among what else the process computes. */
  inEngineCall: InTimeSlice;
  signal: AbortSignal;
}

/** The part of the manifest about an adapter that was written and checked. */
export interface CheckedAdapter {
  lora: AdapterManifest['lora'];
  probe: AdapterProbe;
  checks: AdapterChecks;
  /** The files that were checked, with their digests. */
  files: AdapterManifest['files'];
}

/**
 * Writes the PEFT files of an adapter and checks them. Trained numbers become an adapter in no other way. The checks:
 * every number is finite; the files hold what was trained; the adapter as read from the files computes with the same matrices
 * as the one in memory; the merged model gives the same log-probabilities, up to rounding.
 *
 * Costs two forward passes of some 160 tokens and one merge. The first adapter of a base in memory costs one more pass, and
 * the tokenizer is loaded for it; a model that amplifies rounding errors costs four more. Each is one engine call.
 *
 * @throws ProductError non_finite_loss, merge_not_finite, adapter_check_failed naming what differs and by how much;
 * cancelled. The content of the output folder must then be discarded.
 */
export async function writeCheckedAdapter(options: CheckedAdapterOptions): Promise<CheckedAdapter> {
  const { base, model, adapter, texts, signal } = options;
  const inEngineCall: InTimeSlice = (tokens, work) =>
    options.inEngineCall(tokens, () => {
      throwIfStopped(signal);
      return work();
    });
  const trained = adapter.toPeft(model.name);
  const [{ meant, files, read }, probe] = await allOf(writeAndRead(options, trained), prepareProbe(base, model, texts));
  if (read.exact) await inEngineCall(0, () => checkMatrices(adapter, read.trained, base));
  const alone = await probe.alone(inEngineCall);
  const recorded = new RecordedAdapter(adapter);
  // A pass gives the same numbers of the same matrices.
  const [inMemory, fromFiles] = (await (read.exact
    ? inEngineCall(probe.tokens / 2, () => probe.run([recorded]))
    : inEngineCall(probe.tokens, () => probeAsRead(probe, recorded, read.trained, base)))) as [
    ProbeOutputs,
    ProbeOutputs?,
  ];
  checkFinite(inMemory.logits, 'The base with the trained adapter');
  const adapterDifference = rmsDifference(alone.logprobs, inMemory.logprobs);
  const probed = { base, adapter, probe, alone, adapted: inMemory, inEngineCall };
  const size = rmsSpread(alone.logits) + adapterDifference;
  const asRead =
    fromFiles === undefined
      ? { difference: 0, bound: 0 }
      : await compareProbe(probed, {
          how: 'read from its files',
          outputs: fromFiles,
          bound: roundingBound(base.architecture, [base.dtype], size),
          weights: [],
        });

  const layers = mergedLayers(read.written, model);
  const merged = await checkMerged(probed, recorded, layers);
  const dtypes = new Set([...layers.values()].map(({ storedDtype }) => storedDtype));

  return {
    lora: manifestLora(trained, meant),
    probe: probe.record(alone, inMemory),
    files,
    checks: {
      logprobs: inMemory.logprobs.values.length,
      adapter_difference: adapterDifference,
      read_back_difference: asRead.difference,
      read_back_bound: asRead.bound,
      merged_difference: merged.difference,
      merged_bound: merged.bound,
      merged_dtype: [...dtypes].sort().join(', '),
    },
  };
}

/**
 * Compares the merged model with base and adapter: which layers are merged, each of them with the adapted one, then the
 * log-probabilities.
 *
 * @param recorded - What merged layers are compared with. A pass has used it.
 * @param layers - By name.
 * @throws ProductError merge_not_finite, adapter_check_failed, non_finite_loss
 */
export async function checkMerged(
  probed: ProbedAdapter,
  recorded: RecordedAdapter,
  layers: ReadonlyMap<string, MergedLayer>,
): Promise<ProbeComparison> {
  const { base, adapter, probe, alone, adapted, inEngineCall } = probed;
  // In a model that amplifies rounding errors, log-probabilities may not show it.
  const missing = adapter.modules.filter((name) => !layers.has(name));
  if (missing.length > 0) throw checkFailed(`The merged model leaves out ${missing.join(', ')}.`);
  const asMerged = new MergedModel(recorded, layers);
  const [outputs] = await inEngineCall(probe.tokens / 2, () => {
    const results = probe.run([asMerged]) as [ProbeOutputs];
    asMerged.compareOthers(base.groups);
    return results;
  });
  checkFinite(outputs.logits, 'The merged model');
  const weights = [...new Set([...layers.values()].map(({ storedDtype }) => storedDtype))];
  const adapterDifference = rmsDifference(alone.logprobs, adapted.logprobs);
  const size = rmsSpread(alone.logits) + adapterDifference;
  const rounding = roundingBound(base.architecture, [base.dtype, ...weights], size);
  const bound = mergedBound(rounding, asMerged.rounding, adapterDifference);
  return await compareProbe(probed, { how: 'merged into its base', outputs, bound, weights });
}

/** Writes the files, and reads them again: their digests, and the adapter that they hold. */
async function writeAndRead({ model, outputFolder }: CheckedAdapterOptions, trained: PeftAdapter) {
  const meant = await writePeftFolder(outputFolder, trained, model);
  const files: AdapterManifest['files'] = [];
  for (const name of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
    files.push({ name, ...(await digestFile(join(outputFolder, name))) });
  }
  return { meant, files, read: await readBack(outputFolder, trained, meant) };
}

/** Waits for both also where one fails, so that nothing is written afterwards. */
async function allOf<One, Other>(one: Promise<One>, other: Promise<Other>): Promise<[One, Other]> {
  await Promise.allSettled([one, other]);
  return await Promise.all([one, other]);
}

/** The adapter as read is the same function as the trained one: the same matrices in the engine, bit for bit. */
function checkMatrices(trained: LoraAdapter, read: PeftAdapter, base: LoadedModel): void {
  const asRead = adapterOf(read, base);
  try {
    const differing = trained.differingModules(asRead);
    if (differing.length === 0) return;
    throw checkFailed(`Read from its files, the adapter computes with other matrices at ${differing.join(', ')}.`);
  } finally {
    asRead.dispose();
  }
}

/** The results of the base with the trained adapter, and with the adapter as read. */
function probeAsRead(probe: ProbeRun, trained: ModelAdapter, read: PeftAdapter, base: LoadedModel): ProbeOutputs[] {
  const asRead = adapterOf(read, base);
  try {
    return probe.run([trained, asRead]);
  } finally {
    asRead.dispose();
  }
}

function adapterOf(adapter: PeftAdapter, base: LoadedModel): LoraAdapter {
  const targets = [...adapter.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
  return new LoraAdapter(base.groups, { targets, dropout: 0, seed: 0, initial: adapter });
}
