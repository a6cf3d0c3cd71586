import { type Client, createClient } from '@lorasmith/client/core';
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import { type Connection, watchConnection } from './connection.js';
import { refuseSession } from './session.js';

/** The service that this page is from. */
export interface Service {
  client: Client;
  connection: Connection;
}

/** The address of the page without its fragment: the API's paths are below it. */
export const SERVICE_URL = new URL('.', window.location.href.split('#', 1)[0]).href;

export const connection = watchConnection(new URL('live', SERVICE_URL).href);

/**
 * A client with this key. When the service refuses it, the session is asked for another.
 * @param fetch - @defaultValue that of the connection
 */
export function clientWith(key: string | null, fetch: typeof globalThis.fetch = connection.fetch): Client {
  return createClient({
    baseUrl: SERVICE_URL,
    apiKey: key ?? undefined,
    async fetch(input, init) {
      const response = await fetch(input, init);
      if (response.status === 401) refuseSession(key);
      return response;
    },
  });
}

export const ServiceContext = createContext<Service | null>(null);

export function useService(): Service {
  const service = useContext(ServiceContext);
  if (service === null) throw new Error('This component is outside of the service');
  return service;
}

export function useClient(): Client {
  return useService().client;
}
