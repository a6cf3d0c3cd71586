import { closed, Delivery, DeliveryId, DeliveryList, DeliveryTarget } from '@lorasmith/contracts';
import { deliveryNotFound, type JobStore } from '@lorasmith/queue';
import type { HttpApp } from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { answer, errorAnswers } from '../openapi/answers.js';
import type { DeliveryRequests } from './delivery-requests.js';

export interface DeliveryRoutesOptions {
  store: JobStore['deliveries'];
  requests: DeliveryRequests;
}

const tags = ['deliveries'];
const params = Type.Object({ id: Type.String({ maxLength: 200 }) }, closed);

const createDelivery = {
  schema: {
    operationId: 'createDelivery',
    summary: 'Deliver an adapter to a server that runs, or into a folder',
    tags,
    params,
    body: DeliveryTarget,
    response: { 202: answer('Queued. `Location` is its address.', Delivery), ...errorAnswers(404, 409, 422, 503) },
  },
};

const listDeliveries = {
  schema: {
    operationId: 'listDeliveries',
    summary: 'Deliveries of an adapter, newest first',
    tags,
    params,
    response: { 200: answer('The newest 100.', DeliveryList), ...errorAnswers(404, 503) },
  },
};

const getDelivery = {
  schema: {
    operationId: 'getDelivery',
    summary: 'One delivery, with its state',
    tags,
    params,
    response: { 200: answer('The delivery.', Delivery), ...errorAnswers(404, 503) },
  },
};

const cancelDelivery = {
  schema: {
    operationId: 'cancelDelivery',
    summary: 'Cancel a delivery; what was there before stays, or is restored',
    tags,
    params,
    response: {
      200: answer('It has ended.', Delivery),
      202: answer('It ends once its process has stopped.', Delivery),
      ...errorAnswers(404, 503),
    },
  },
};

/** The routes of deliveries. */
export async function deliveryRoutes(app: HttpApp, { store, requests }: DeliveryRoutesOptions): Promise<void> {
  app.post('/adapters/:id/deliveries', createDelivery, async ({ params: { id }, body, caller, log }, reply) => {
    const delivery = await requests.request(id, body, caller);
    log.info({ delivery: delivery.id, adapter: delivery.adapter, kind: body.kind }, 'delivery accepted');
    return await reply.code(202).header('location', `/deliveries/${delivery.id}`).send(delivery);
  });

  app.get('/adapters/:id/deliveries', listDeliveries, async ({ params: { id }, caller }) => ({
    data: await requests.ofAdapter(id, caller),
  }));

  app.get('/deliveries/:id', getDelivery, ({ params: { id } }) => store.get(deliveryIdOf(id)));

  app.post('/deliveries/:id/cancel', cancelDelivery, async ({ params: { id } }, reply) => {
    const delivery = await store.cancel(deliveryIdOf(id));
    return await reply.code(delivery.ended_at === null ? 202 : 200).send(delivery);
  });
}

/** Answers an invalid id like one that does not exist. @throws ProductError `delivery_not_found` */
export function deliveryIdOf(id: string): DeliveryId {
  if (Value.Check(DeliveryId, id)) return id;
  throw deliveryNotFound(id);
}
