import {
  type AdapterFile,
  AdapterFileList,
  type AdapterId,
  ERRORS,
  ErrorBody,
  type ErrorCode,
  ProductError,
} from '@lorasmith/contracts';
import { callerHeaders, EVERYTHING, serviceSecretHeaders } from '@lorasmith/service-kit';
import type { ByteRange } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import { type RegistryAddress, registryUnavailable } from '../adapters/registry-client.js';

export type AdapterLayout = 'peft' | 'per-expert';

/** A form in which an adapter is delivered. */
export interface AdapterForm {
  /** @defaultValue peft */
  layout?: AdapterLayout | undefined;
  /** The model merged with the adapter. It is computed on the first request. @defaultValue false */
  merged?: boolean | undefined;
  /** The repository of the hub that its texts name as the base model. @defaultValue as they are stored */
  baseModel?: string | undefined;
}

/** The files of published adapters, and of what is computed from them. */
export interface AdapterSource {
  /** @throws ProductError `adapter_not_found`, `invalid_adapter`, `registry_unavailable`; `timeout` while a merge continues, and its other errors */
  files(id: AdapterId, form: AdapterForm, signal: AbortSignal): Promise<AdapterFile[]>;
  /**
   * The bytes of a file.
   * @param range - The first and the last byte. @defaultValue all
   * @throws ProductError as {@link files}
   */
  read(
    id: AdapterId,
    name: string,
    form: AdapterForm,
    signal: AbortSignal,
    range?: ByteRange,
  ): Promise<AsyncIterable<Uint8Array>>;
}

/** The files as the registry gives them, which computes those of another layout. */
export function registryFiles({ url, secret }: RegistryAddress): AdapterSource {
  const get = async (path: string, signal: AbortSignal, range?: ByteRange): Promise<Response> => {
    const part: Record<string, string> = range === undefined ? {} : { range: `bytes=${range.start}-${range.end}` };
    try {
      const headers = { ...callerHeaders(EVERYTHING), ...serviceSecretHeaders(await secret()), ...part };
      const answer = await fetch(new URL(path, url), { headers, signal, redirect: 'manual' });
      const location = answer.status === 307 ? answer.headers.get('location') : null;
      // In the bucket: it must not get the other headers.
      return location === null ? answer : await fetch(location, { headers: part, signal });
    } catch (cause) {
      signal.throwIfAborted();
      throw registryUnavailable(cause);
    }
  };
  const found = async (path: string, signal: AbortSignal, range?: ByteRange): Promise<Response> => {
    const answer = await get(path, signal, range);
    if (answer.status === (range === undefined ? 200 : 206)) return answer;
    throw errorOf(await answer.text().catch(() => ''), answer.status);
  };
  return {
    async files(id, form, signal) {
      const answer = await found(`/adapters/${id}/files?${queryOf(form)}`, signal);
      const list: unknown = await answer.json().catch(() => null);
      if (Value.Check(AdapterFileList, list)) return list.data;
      throw registryUnavailable(new Error('its list of files is not valid'));
    },
    async read(id, name, form, signal, range) {
      const path = `/adapters/${id}/files/${encodeURIComponent(name)}?${queryOf(form)}`;
      const answer = await found(path, signal, range);
      if (answer.body === null) throw registryUnavailable(new Error(`it sent nothing of ${name}`));
      return answer.body as AsyncIterable<Uint8Array>;
    },
  };
}

function queryOf({ layout, merged, baseModel }: AdapterForm): string {
  return new URLSearchParams({
    ...(layout === undefined ? {} : { layout }),
    ...(merged ? { weights: 'merged' } : {}),
    ...(baseModel === undefined ? {} : { base_model: baseModel }),
  }).toString();
}

/** The error that the registry reports. */
function errorOf(text: string, status: number): ProductError {
  try {
    const { error } = Value.Parse(ErrorBody, JSON.parse(text));
    if (error.code in ERRORS) return new ProductError(error.code as ErrorCode, error.message);
  } catch {
    // It is no error of the registry.
  }
  return registryUnavailable(new Error(`it answered ${status}`));
}
