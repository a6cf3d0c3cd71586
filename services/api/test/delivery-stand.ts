import type { Delivery, DeliveryTarget, ErrorBody } from '@lorasmith/contracts';
import { connectRedis, createLogger } from '@lorasmith/service-kit';
import { expect } from 'vitest';
import { startRealRedis } from '../../../test/real-redis.js';
import { addBaseModel, type PublishOptions, publishReferenceAdapter } from '../../registry/test/published-adapter.js';
import { HubTokens } from '../src/access/hub-tokens.js';
import { registryFiles } from '../src/deliveries/adapter-source.js';
import { type DeliveryConfig, NO_DELIVERIES } from '../src/deliveries/delivery-kind.js';
import { type DeliveryKindsOptions, deliveryKinds } from '../src/deliveries/delivery-kinds.js';
import { type DeliveryRunnerOptions, startDeliveries } from '../src/deliveries/delivery-runner.js';
import type { NamedAdapters } from '../src/deliveries/kinds/name.js';
import { type RealApi, type RealApiOptions, startRealApi } from './real-api.js';
import { startRegistry } from './registry-process.js';

export const MODEL = 'llama-tied';
export const SECRETS_KEY = 'x'.repeat(40);

export interface DeliveryStandOptions extends Pick<DeliveryKindsOptions, 'hubTimeouts'> {
  config: Partial<DeliveryConfig>;
  access?: NonNullable<RealApiOptions['changes']>['access'];
}

/** The routes and the runner of deliveries with a real Redis, and a real registry with its files. */
export class DeliveryStand {
  readonly api: RealApi;
  readonly hubTokens: HubTokens;
  /** The lines of the log of the runner. */
  readonly lines: string[] = [];
  readonly #ends: (() => unknown)[];
  #stopRunner = async () => {};

  static async start({ config, hubTimeouts, access }: DeliveryStandOptions): Promise<DeliveryStand> {
    const redis = await startRealRedis();
    const places = await startRealApi({ redisUrl: redis.url, prefix: `${redis.prefix}other:` });
    await addBaseModel(`${places.folder}/models`, MODEL);
    const registry = await startRegistry(places.folder);
    const logger = createLogger({ service: 'api', level: 'silent' });
    const connection = connectRedis({ url: redis.url, whenUnavailable: 'fail-fast', name: 'test', logger });
    const hubTokens = new HubTokens({ redis: connection, prefix: redis.prefix, secretsKey: SECRETS_KEY });
    const kinds = (names: NamedAdapters) =>
      deliveryKinds({
        config: { ...NO_DELIVERIES, ...config },
        source: registryFiles(registry.address),
        ...{ hubTokens, names },
        ...(hubTimeouts === undefined ? {} : { hubTimeouts }),
      });
    const { adapters } = places;
    const changes = { adapters, registry: registry.address, deliveryKinds: kinds, hubTokens };
    const api = await startRealApi({
      redisUrl: redis.url,
      prefix: redis.prefix,
      changes: access === undefined ? changes : { ...changes, access },
    });
    Object.assign(api, { adapters });
    const ends = [
      () => registry.process.kill('SIGKILL'),
      () => api.stop(),
      () => places.stop(),
      () => connection.disconnect(),
      () => redis.stop(),
    ];
    return new DeliveryStand(api, hubTokens, ends);
  }

  private constructor(api: RealApi, hubTokens: HubTokens, ends: (() => unknown)[]) {
    this.api = api;
    this.hubTokens = hubTokens;
    this.#ends = ends;
  }

  async stop(): Promise<void> {
    await this.#stopRunner();
    for (const end of this.#ends) await end();
  }

  /** Starts the runner again, with other options. */
  async run(changes: Partial<DeliveryRunnerOptions> = {}): Promise<void> {
    await this.#stopRunner();
    const { deliveries: requests, deliveryKinds: kinds } = this.api.parts;
    this.#stopRunner = startDeliveries({
      store: this.api.jobs.deliveries,
      requests,
      adapters: this.api.adapters,
      kinds,
      log: createLogger({
        service: 'api',
        level: 'trace',
        destination: { write: (line: string) => void this.lines.push(line) },
      }),
      delaysMs: [1, 1],
      pollMs: 5,
      ...changes,
    });
  }

  async pauseRunner(): Promise<void> {
    await this.#stopRunner();
  }

  async publish(id: string, options: Pick<PublishOptions, 'prepare' | 'change'> = {}): Promise<void> {
    await publishReferenceAdapter(this.api.adapters, { id, name: MODEL, ...options });
  }

  async ask(method: 'GET' | 'POST' | 'PUT' | 'DELETE', url: string, payload?: object, headers: object = {}) {
    const answer = await this.api.app.inject({
      method,
      url,
      headers: { ...headers },
      ...(payload === undefined ? {} : { payload }),
    });
    const body = answer.body === '' ? null : answer.json();
    return { status: answer.statusCode, text: answer.body, body: body as Delivery & ErrorBody & { data: Delivery[] } };
  }

  async ended(id: string): Promise<Delivery> {
    const get = async () => (await this.ask('GET', `/deliveries/${id}`)).body;
    await expect.poll(get, { timeout: 30_000 }).toMatchObject({ ended_at: expect.any(String) });
    return await get();
  }

  async deliver(id: string, to: DeliveryTarget): Promise<Delivery> {
    const { status, body } = await this.ask('POST', `/adapters/${id}/deliveries`, to);
    expect([status, body.error]).toEqual([202, null]);
    return await this.ended(body.id);
  }
}
