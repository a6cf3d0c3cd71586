import { readManifest } from '@lorasmith/artifacts';
import { type AdapterManifest, type BaseModelDetail, JobRequest, ProductError } from '@lorasmith/contracts';
import { baseMismatch } from '@lorasmith/model-folder';
import { inheritLora } from '@lorasmith/planning';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { Value } from 'typebox/value';

const param = 'lora.init_from';

/**
 * The manifest of the adapter that a job starts from.
 * @throws ProductError `adapter_not_found`, also for one that the caller may not use; `invalid_adapter`
 */
export async function initialManifestOf(adapters: BundleStore, id: string, caller: Caller): Promise<AdapterManifest> {
  return await readManifest(adapters, id, { isAllowed: (owner) => mayUse(caller, owner) }).catch((error: unknown) => {
    if (!(error instanceof ProductError) || !['adapter_not_found', 'invalid_adapter'].includes(error.code)) throw error;
    throw new ProductError(error.code, error.message, { param, cause: error });
  });
}

/**
 * Fills in the rank, alpha, patterns and layers of the adapter that the job continues. Planning checks that fields in the
 * request have the same values as the adapter.
 * @throws ProductError `invalid_adapter` for an adapter of another base model, or with settings that are invalid for a job
 */
export function continuing(request: JobRequest, initial: AdapterManifest, model: BaseModelDetail): JobRequest {
  const mismatch = baseMismatch(initial.id, initial.base_model, { name: request.base_model });
  if (mismatch !== null) throw new ProductError('invalid_adapter', mismatch, { param });
  const [layers, parameters] = [model.modules, model.expert_parameters].map((parts) => parts.map(({ name }) => name));
  const base = { layers: layers!, parameters: parameters! };
  const complete: JobRequest = { ...request, lora: inheritLora(request.lora ?? {}, initial, base) };
  if (Value.Check(JobRequest, complete)) return complete;
  const [fault] = Value.Errors(JobRequest, complete);
  const message = `${initial.id} cannot be trained further: its ${fault?.instancePath.slice(1).replaceAll('/', '.')} ${fault?.message}.`;
  throw new ProductError('invalid_adapter', message, { param });
}
