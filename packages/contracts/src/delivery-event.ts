import { Type } from 'typebox';
import { DELIVERY_EVENT_TYPES, Delivery, type DeliveryEventType } from './delivery.js';
import { eventSchema } from './event.js';
import { closed, DeliveryId, Nullable } from './schema-parts.js';

/** A change of the state of a delivery; its data is the delivery as it was then. */
export const DeliveryEvent = Type.Union(
  DELIVERY_EVENT_TYPES.map((type) => eventSchema({ delivery: DeliveryId }, type, Delivery)),
  { $id: 'DeliveryEvent' },
);
export type DeliveryEvent = {
  id: string;
  delivery: DeliveryId;
  created_at: string;
  type: DeliveryEventType;
  data: Delivery;
};

export const DeliveryEventList = Type.Object(
  { data: Type.Array(DeliveryEvent), has_more: Type.Boolean(), next: Nullable(Type.String()) },
  { $id: 'DeliveryEventList', ...closed },
);
