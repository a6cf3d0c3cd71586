import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ADAPTER_FILES, ProductError } from '@lorasmith/contracts';

/**
 * The base model named in an adapter's config. PEFT writes a name of the Hugging Face Hub (`org/model`) or a path of the
 * training machine; the last part is the name here. The rest of the config is checked with the adapter.
 *
 * @param folder - Contains the config, whose size was checked before
 * @throws ProductError `invalid_adapter` if the config is not JSON; `invalid_request` if it names no base model
 */
export async function namedBaseModel(folder: string): Promise<string> {
  let config: unknown;
  try {
    config = JSON.parse(await readFile(path.join(folder, ADAPTER_FILES.config), 'utf8'));
  } catch (cause) {
    const message = `${ADAPTER_FILES.config} is not JSON (${(cause as Error).message}).`;
    throw new ProductError('invalid_adapter', message, { cause });
  }
  const { base_model_name_or_path: named } = (config ?? {}) as { base_model_name_or_path?: unknown };
  const name = typeof named === 'string' ? named.split(/[/\\]/).findLast((part) => part !== '') : undefined;
  if (name !== undefined) return name;
  const message = 'The adapter does not name its base model. Add ?base_model=NAME.';
  throw new ProductError('invalid_request', message, { param: 'base_model' });
}
