import { inTime } from '@lorasmith/concurrency';
import { closed, ErrorBody, type Fault, ProductError } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import type { HttpApp } from './http-app.js';

/** Resolves if a dependency is available; otherwise rejects with the reason. */
export type ReadyCheck = () => Promise<unknown>;

export interface HealthRoutesOptions {
  /** Checks by their name in the answer of `/ready`, for instance `redis`. */
  checks: Readonly<Record<string, ReadyCheck>>;
}

const Health = Type.Object(
  { status: Type.Literal('ok'), checks: Type.Array(Type.String(), { description: 'What was checked.' }) },
  { $id: 'Health', ...closed },
);

const CHECK_TIMEOUT_MS = 2_500;

/** `/live`: the process answers. `/ready`: all its dependencies are available; otherwise 503 names the others. */
export async function healthRoutes(app: HttpApp, { checks }: HealthRoutesOptions): Promise<void> {
  const names = Object.keys(checks);
  const tags = ['health'];
  app.get(
    '/live',
    { schema: { operationId: 'getLive', summary: 'Whether the process runs', tags, response: { 200: Health } } },
    async (): Promise<Static<typeof Health>> => ({ status: 'ok', checks: [] }),
  );
  const response = { 200: Health, 503: ErrorBody };
  app.get(
    '/ready',
    { schema: { operationId: 'getReady', summary: 'Whether everything it needs is available', tags, response } },
    async (): Promise<Static<typeof Health>> => {
      const faults = (await Promise.all(names.map((name) => faultOf(name, checks[name]!)))).flat();
      if (faults.length === 0) return { status: 'ok', checks: names };
      const message = `Not ready: ${faults.map((fault) => fault.message).join(' ')}`;
      throw new ProductError('service_unavailable', message, { details: faults });
    },
  );
}

async function faultOf(name: string, check: ReadyCheck): Promise<Fault[]> {
  try {
    await inTime(check(), CHECK_TIMEOUT_MS, () => {
      throw new Error(`no answer within ${CHECK_TIMEOUT_MS} ms`);
    });
    return [];
  } catch (error) {
    const code = error instanceof ProductError ? error.code : 'service_unavailable';
    return [{ code, message: `${name}: ${(error as Error).message}`, param: name }];
  }
}
