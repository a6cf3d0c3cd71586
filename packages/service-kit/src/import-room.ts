import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';

/** Bytes that an import may store. */
export interface ImportRoom {
  /** Of the owner. */
  own: number;
  /** Of everybody. */
  total: number;
}

const OWN_HEADER = 'x-lorasmith-own-room';
const TOTAL_HEADER = 'x-lorasmith-total-room';
const UNBOUNDED: ImportRoom = Object.freeze({ own: Number.MAX_SAFE_INTEGER, total: Number.MAX_SAFE_INTEGER });

/** How the api tells the registry what room there is; written over whatever a client sent, as the headers of the caller. */
export function roomHeaders({ own, total }: ImportRoom): Record<string, string> {
  return { [OWN_HEADER]: String(own), [TOTAL_HEADER]: String(total) };
}

/**
 * The room that {@link roomHeaders} told of; without bounds for a request that did not come through the api.
 * @throws ProductError `invalid_request`
 */
export function roomOfHeaders(headers: IncomingHttpHeaders): ImportRoom {
  const told = [headers[OWN_HEADER], headers[TOTAL_HEADER]];
  if (told.every((value) => value === undefined)) return UNBOUNDED;
  const [own = -1, total = -1] = told.map((value) => Number(value || Number.NaN));
  const isSize = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (isSize(own) && isSize(total)) return { own, total };
  throw new ProductError('invalid_request', `${OWN_HEADER} and ${TOTAL_HEADER} are for the api to send.`);
}
