import { createHash } from 'node:crypto';
import type { Dataset, JobSpec } from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  digestTokenizer,
  loadChatTemplate,
  loadTokenizer,
  type ModelFolder,
} from '@lorasmith/model-folder';
import { convertRows } from './convert-rows.js';
import { RowEncoder } from './encode-row.js';
import type { ExampleStore, OpenExamples } from './example-file/example-store.js';
import type { ExampleWriter } from './example-file/example-writer.js';
import { FaultList } from './fault-list.js';
import { FeatureRowCollector } from './feature-row-collector.js';
import type { RowCollector } from './row-collector.js';
import { TokenRowCollector } from './token-row-collector.js';

export interface PrepareExamplesOptions {
  spec: JobSpec;
  model: ModelFolder;
  dataset: Dataset;
  rowsFile: string;
  examples: ExampleStore;
  /** Gets what is wrong with rows. */
  faults: FaultList;
  signal?: AbortSignal | undefined;
}

/**
 * Raise it with every change to what becomes of a row: examples that were made before are then made anew. A test compares
 * the examples of known rows with what they were.
 */
const CONVERSION = 2;

/**
 * The examples of a job's dataset, from the store, or made in one pass over the rows and kept there.
 *
 * @returns null when rows have faults; those are in the list then, and nothing is kept
 * @throws ProductError of the tokenizer and the chat template, and what {@link convertRows} throws
 */
export async function prepareExamples(options: PrepareExamplesOptions): Promise<OpenExamples | null> {
  const { dataset, rowsFile, examples, faults, signal } = options;
  const id = { dataset: dataset.id, digest: await digestOf(options) };
  const known = await examples.open(id, signal);
  if (known !== null) return known;
  const fill = async (writer: ExampleWriter) => {
    const collector = await collectorFor(options, writer);
    const found = new FaultList();
    await convertRows({ dataset, rowsFile, collector, faults: found, signal });
    faults.addAll(found);
    return found.isEmpty ? { counts: collector.counts, warnings: collector.warnings() } : null;
  };
  return await examples.make(id, fill, signal);
}

/** Of everything that the examples are made from. What only splits or orders them is not in it. */
async function digestOf({ spec, model, dataset }: PrepareExamplesOptions): Promise<string> {
  const { architecture, path } = model;
  const { sha256, format, created_at } = dataset;
  const { max_seq_length: maxLength, on_overflow: onOverflow } = spec.training;
  const madeFrom =
    architecture.kind === 'classifier'
      ? widthsOf(architecture)
      : {
          tokenizer: await digestTokenizer(path),
          endTokenIds: architecture.eosTokenIds,
          vocabSize: architecture.vocabSize,
          maxPositions: architecture.maxPositions,
          maxLength,
          onOverflow,
        };
  const all = JSON.stringify([CONVERSION, { sha256, format, created_at }, madeFrom]);
  return createHash('sha256').update(all).digest('hex');
}

function widthsOf({ layers }: Extract<ModelFolder['architecture'], { kind: 'classifier' }>) {
  return { width: layers[0]!.inFeatures, classes: layers.at(-1)!.outFeatures };
}

/** What makes examples for this model. */
async function collectorFor(options: PrepareExamplesOptions, writer: ExampleWriter): Promise<RowCollector> {
  const { architecture } = options.model;
  if (architecture.kind === 'classifier') return new FeatureRowCollector(widthsOf(architecture), writer);
  return await tokenCollectorFor(options, architecture, writer);
}

async function tokenCollectorFor(
  { spec, model, dataset }: PrepareExamplesOptions,
  architecture: DecoderArchitecture,
  writer: ExampleWriter,
): Promise<RowCollector> {
  const tokenizer = await loadTokenizer(model.path);
  // Rows of text have no turns, so a broken template does not stand in their way. For a template that asks for the date
  // it is that of the upload: on whatever day a job is planned, trained or resumed, its tokens are the same.
  const now = new Date(dataset.created_at);
  const template = dataset.format === 'text' ? null : await loadChatTemplate(model.path, { now });
  const endTokenIds = [tokenizer.eosTokenId, ...architecture.eosTokenIds].filter((id) => id !== null);
  const settings = {
    encoder: new RowEncoder({ tokenizer, template, endTokenIds }),
    tokenizer,
    vocabSize: architecture.vocabSize,
    maxLength: spec.training.max_seq_length,
    maxPositions: architecture.maxPositions,
    onOverflow: spec.training.on_overflow,
  };
  return new TokenRowCollector(settings, writer);
}
