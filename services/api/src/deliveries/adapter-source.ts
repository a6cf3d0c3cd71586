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
import { Value } from 'typebox/value';
import { type RegistryAddress, registryUnavailable } from '../adapters/registry-client.js';

export type AdapterLayout = 'peft' | 'per-expert';

/** The files of published adapters. */
export interface AdapterSource {
  /** @throws ProductError `adapter_not_found`, `invalid_adapter`, `registry_unavailable` */
  files(id: AdapterId, layout: AdapterLayout, signal: AbortSignal): Promise<AdapterFile[]>;
  /** @throws ProductError as {@link files} */
  read(id: AdapterId, name: string, layout: AdapterLayout, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
}

/** The files as the registry gives them, which computes those of another layout. */
export function registryFiles({ url, secret }: RegistryAddress): AdapterSource {
  const get = async (path: string, signal: AbortSignal): Promise<Response> => {
    try {
      const headers = { ...callerHeaders(EVERYTHING), ...serviceSecretHeaders(await secret()) };
      const answer = await fetch(new URL(path, url), { headers, signal, redirect: 'manual' });
      const location = answer.status === 307 ? answer.headers.get('location') : null;
      // In the bucket: it must not get the headers.
      return location === null ? answer : await fetch(location, { signal });
    } catch (cause) {
      signal.throwIfAborted();
      throw registryUnavailable(cause);
    }
  };
  const found = async (path: string, signal: AbortSignal): Promise<Response> => {
    const answer = await get(path, signal);
    if (answer.status === 200) return answer;
    throw errorOf(await answer.text().catch(() => ''), answer.status);
  };
  return {
    async files(id, layout, signal) {
      const answer = await found(`/adapters/${id}/files?layout=${layout}`, signal);
      const list: unknown = await answer.json().catch(() => null);
      if (Value.Check(AdapterFileList, list)) return list.data;
      throw registryUnavailable(new Error('its list of files is not valid'));
    },
    async read(id, name, layout, signal) {
      const answer = await found(`/adapters/${id}/files/${encodeURIComponent(name)}?layout=${layout}`, signal);
      if (answer.body === null) throw registryUnavailable(new Error(`it sent nothing of ${name}`));
      return answer.body as AsyncIterable<Uint8Array>;
    },
  };
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
