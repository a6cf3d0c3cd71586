import { type AliasStore, aliasNotFound } from '@lorasmith/artifacts';
import {
  Alias,
  AliasDeliveriesRequest,
  AliasList,
  AliasName,
  AliasQuery,
  closed,
  DeliveryList,
  MoveAliasRequest,
  type Owner,
  ProductError,
  RollBackAliasRequest,
} from '@lorasmith/contracts';
import { type Caller, type HttpApp, linkSignals, mayUse, onceClosed } from '@lorasmith/service-kit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { ConcurrencyLimit } from '../access/concurrency-limit.js';
import { serviceStopping } from '../openai/answer-request.js';
import { answer, errorAnswers, noBody } from '../openapi/answers.js';
import type { AliasDeliveries } from './alias-deliveries.js';
import type { AliasMoves, Mover } from './alias-moves.js';

export interface AliasRoutesOptions {
  aliases: AliasStore;
  moves: AliasMoves;
  deliveries: AliasDeliveries;
  /** The limit of moves with a guard. */
  comparisons: ConcurrencyLimit;
}

const tags = ['adapters'];
/** Any text is accepted, so that an invalid name is answered like one that does not exist. */
const params = Type.Object({ name: Type.String({ maxLength: 200 }) }, closed);

const listAliases = {
  schema: {
    operationId: 'listAliases',
    summary: 'Names that point to adapters, sorted',
    tags,
    querystring: AliasQuery,
    response: { 200: answer('All of them.', AliasList), ...errorAnswers(503) },
  },
};

const getAlias = {
  schema: {
    operationId: 'getAlias',
    summary: 'One name, with its moves',
    tags,
    params,
    querystring: AliasQuery,
    response: { 200: answer('The name.', Alias), ...errorAnswers(404, 503) },
  },
};

const moveAlias = {
  schema: {
    operationId: 'moveAlias',
    summary: 'Point a name at an adapter',
    description:
      'From then on, the name means this adapter wherever a request takes one. Repeating it changes nothing. With `if_version`, of several moves at ' +
      'the same time one succeeds. With `guard`, workers first compute the losses of both adapters on a dataset, which the request waits for.',
    tags,
    params: Type.Object({ name: AliasName }, closed),
    querystring: AliasQuery,
    body: MoveAliasRequest,
    response: { 200: answer('The name.', Alias), ...errorAnswers(404, 409, 422, 503, 507) },
  },
};

const rollBackAlias = {
  schema: {
    operationId: 'rollBackAlias',
    summary: 'Point a name at an adapter that it pointed to before',
    tags,
    params,
    querystring: AliasQuery,
    body: Type.Union([RollBackAliasRequest, Type.Null()]),
    response: { 200: answer('The name.', Alias), ...errorAnswers(404, 409, 422, 503, 507) },
  },
};

const deleteAlias = {
  schema: {
    operationId: 'deleteAlias',
    summary: 'Delete a name and its history; its adapter stays',
    tags,
    params,
    querystring: AliasQuery,
    response: { 204: noBody('Deleted.'), ...errorAnswers(404, 503, 507) },
  },
};

const setAliasDeliveries = {
  schema: {
    operationId: 'setAliasDeliveries',
    summary: 'Have deliveries follow a name',
    description:
      'Its adapter is delivered to all of these places now, and whenever the name moves. An empty list ends that; what was delivered stays. ' +
      'A delivery that fails does not move the name back.',
    tags: ['deliveries'],
    params,
    querystring: AliasQuery,
    body: AliasDeliveriesRequest,
    response: { 200: answer('The name.', Alias), ...errorAnswers(404, 422, 503, 507) },
  },
};

const listAliasDeliveries = {
  schema: {
    operationId: 'listAliasDeliveries',
    summary: 'Deliveries of the present move of a name',
    tags: ['deliveries'],
    params,
    querystring: AliasQuery,
    response: { 200: answer('One for each place that follows the name.', DeliveryList), ...errorAnswers(404, 503) },
  },
};

/** The routes of names that point to adapters. */
export async function aliasRoutes(app: HttpApp, options: AliasRoutesOptions): Promise<void> {
  const { aliases, moves, deliveries, comparisons } = options;
  const closing = new AbortController();
  // A comparison takes as long as its rows, and closing the server would wait for it.
  app.addHook('preClose', async () => closing.abort(serviceStopping()));
  const moverOf = ({ caller, identity }: FastifyRequest, reply: FastifyReply): Mover => {
    const left = new AbortController();
    onceClosed(reply.raw, () => left.abort(new ProductError('cancelled', 'The caller has left.')));
    return { caller, key: identity.key?.id ?? null, signal: linkSignals([left.signal, closing.signal]).signal };
  };

  app.get('/aliases', listAliases, async ({ query, caller }) => {
    const names = await aliases.list(ownerOf(query, caller));
    return {
      data: names.map(({ history: _, deliver: __, ...summary }) => summary),
      has_more: false as const,
      next: null,
    };
  });

  app.get('/aliases/:name', getAlias, async ({ params: { name }, query, caller }) => {
    const alias = await aliases.get({ owner: ownerOf(query, caller), name });
    if (alias === null) throw aliasNotFound(name);
    return alias;
  });

  app.put('/aliases/:name', moveAlias, async (request, reply) => {
    const { params, query, caller, body, limits, identity } = request;
    if (body.guard != null) {
      const { generationRequests: own, totalGenerationRequests: total } = limits;
      onceClosed(reply.raw, comparisons.acquire(identity.key?.id ?? null, { own, total }));
    }
    const alias = await moves.point({ owner: ownerOf(query, caller), ...params }, body, moverOf(request, reply));
    logMove(request, alias);
    await deliveries.follow(alias);
    return alias;
  });

  app.post('/aliases/:name/rollback', rollBackAlias, async (request, reply) => {
    const { params, query, caller, body } = request;
    const of = { owner: ownerOf(query, caller), ...params };
    const alias = await moves.rollBack(of, body ?? {}, moverOf(request, reply));
    logMove(request, alias);
    await deliveries.follow(alias);
    return alias;
  });

  app.delete('/aliases/:name', deleteAlias, async ({ params: { name }, query, caller, log }, reply) => {
    const of = { owner: ownerOf(query, caller), name };
    await deliveries.forget(of);
    await aliases.remove(of);
    log.info({ alias: name }, 'name of an adapter deleted');
    return await reply.code(204).send();
  });

  app.put('/aliases/:name/deliveries', setAliasDeliveries, async ({ params: { name }, query, caller, body, log }) => {
    const alias = await deliveries.set({ owner: ownerOf(query, caller), name }, body.deliver, caller);
    log.info({ alias: name, deliveries: body.deliver.length }, 'deliveries follow a name');
    return alias;
  });

  app.get('/aliases/:name/deliveries', listAliasDeliveries, async ({ params: { name }, query, caller }) => ({
    data: await deliveries.of({ owner: ownerOf(query, caller), name }),
  }));
}

/** The owner whose names a request is about. @throws ProductError `forbidden` */
function ownerOf({ owner: wanted }: AliasQuery, caller: Caller): Owner {
  if (wanted === undefined) return caller.owner;
  const owner = wanted === 'none' ? null : wanted;
  if (mayUse(caller, owner)) return owner;
  const message = 'Only a key that sees everything may use the names of another key.';
  throw new ProductError('forbidden', message, { param: 'owner' });
}

function logMove({ log }: Pick<FastifyRequest, 'log'>, { name, version, adapter }: Alias): void {
  log.info({ alias: name, version, adapter }, 'name points to an adapter');
}
