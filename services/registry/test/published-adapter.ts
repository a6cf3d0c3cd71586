import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { listingOf } from '@lorasmith/artifacts';
import { ADAPTER_FILES, type AdapterManifest, JobSpec } from '@lorasmith/contracts';
import { type BaseDigests, digestBase, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import { type BundleStore, digestFile } from '@lorasmith/storage';
import { Value } from 'typebox/value';

export const REFERENCE = new URL('../../../test/fixtures/reference/', import.meta.url).pathname;

/** A well-formed adapter id. */
export function adapterId(number: number): string {
  return `ad_${String(number).padStart(24, '0')}`;
}

/** Copies the base model of a reference case into the models folder, under the name of the case. */
export async function addBaseModel(modelsDir: string, name: string): Promise<void> {
  await mkdir(modelsDir, { recursive: true });
  await cp(join(REFERENCE, name, 'base'), join(modelsDir, name), { recursive: true });
}

export interface PublishOptions {
  id: string;
  /** The reference case of the trained adapter. */
  name: string;
  createdAt?: string;
  /** Changes the PEFT files before their digests are taken. */
  prepare?(folder: string): Promise<void>;
  /** Changes the manifest before it is written. */
  change?(manifest: AdapterManifest): void;
  /** Changes the staged files after their digests were taken. */
  spoil?(folder: string): Promise<void>;
}

/** Publishes the trained adapter of a reference case as a worker does. */
export async function publishReferenceAdapter(adapters: BundleStore, options: PublishOptions): Promise<void> {
  const { id, name } = options;
  const staging = await adapters.stage();
  await cp(join(REFERENCE, name, 'adapter_trained'), staging.path, { recursive: true });
  await options.prepare?.(staging.path);
  const files: AdapterManifest['files'] = [];
  for (const file of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
    files.push({ name: file, ...(await digestFile(join(staging.path, file))) });
  }
  const model = await readModelFolder(join(REFERENCE, name, 'base'));
  const manifest = manifestOf(id, name, await digestBase(model, new WeightDigests(null)), files);
  if (options.createdAt !== undefined) manifest.created_at = options.createdAt;
  options.change?.(manifest);
  await staging.write(ADAPTER_FILES.manifest, [Buffer.from(JSON.stringify(manifest))]);
  await options.spoil?.(staging.path);
  await adapters.publish(staging, id, listingOf(manifest));
}

function manifestOf(id: string, model: string, base: BaseDigests, files: AdapterManifest['files']): AdapterManifest {
  const dataset = `ds_${'0'.repeat(24)}`;
  return {
    version: 1,
    id,
    object: 'adapter',
    owner: null,
    name: 'a-name',
    created_at: '2026-05-04T03:02:01.500Z',
    origin: {
      kind: 'trained',
      job: id.replace('ad_', 'job_'),
      dataset: { id: dataset, sha256: '0'.repeat(64), rows: 4 },
      validation_dataset: null,
      settings: Value.Parse(
        JobSpec,
        Value.Default(JobSpec, {
          base_model: model,
          dataset,
          validation: {},
          lora: { r: 4, alpha: 8, target_modules: ['q_proj'] },
          training: {},
          name: 'a-name',
        }),
      ),
      report: {
        base_model: model,
        family: 'llama',
        precision: { chosen: 'float32', reason: 'asked for' },
        parameters: { trained: 1, total: 100, trained_percent: 1, modules: ['q_proj'] },
        rows: { total: 4, training: 4, validation: 0, overflowed: 0, dropped: 0, truncated: 0, split: 0, longest: 9 },
        validation_dataset: null,
        rendered: null,
        tokens: { per_epoch: 36, trained_per_epoch: 18, total: 108, validation: 0 },
        steps: { per_epoch: 1, total: 3, warmup: 1 },
        estimate: null,
        publish: 'last',
        adapter_bytes: 1_000,
        warnings: [],
      },
      result: {
        steps: 3,
        tokens: 108,
        trained_tokens: 54,
        seconds: 1.5,
        peak_memory_bytes: 1,
        first_loss: 3,
        last_loss: 1,
        losses: [3, 2, 1],
        accuracies: [0, 0.25, 0.5],
        adapter_step: 3,
        stopped_early: false,
        evaluation_before: null,
        evaluation_after: null,
        samples: [],
      },
      probe: { kind: 'next-token', precision: 'float32', cases: [] },
      checks: {
        logprobs: 1,
        adapter_difference: 1,
        read_back_difference: 0,
        read_back_bound: 0,
        merged_difference: 0,
        merged_bound: 1,
        merged_dtype: 'float32',
      },
    },
    base_model: { name: model, family: 'llama', ...base, quantization: null },
    lora: { r: 4, alpha: 8, modules: ['q_proj'], rank_pattern: {}, alpha_pattern: {} },
    versions: { lorasmith: '0.1.0' },
    files,
  };
}
