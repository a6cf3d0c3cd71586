import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';

/** Bytes that an import may store. */
export interface FreeBytes {
  /** Free bytes in the quota of its owner. */
  own: number;
  /** Free bytes in the quota that all owners share. */
  total: number;
}

const OWN_HEADER = 'x-lorasmith-own-free-bytes';
const TOTAL_HEADER = 'x-lorasmith-total-free-bytes';
const UNLIMITED: FreeBytes = Object.freeze({ own: Number.MAX_SAFE_INTEGER, total: Number.MAX_SAFE_INTEGER });

/** The headers in which the api passes the free bytes to the registry. They replace headers of the same name from the client. */
export function freeBytesHeaders({ own, total }: FreeBytes): Record<string, string> {
  return { [OWN_HEADER]: String(own), [TOTAL_HEADER]: String(total) };
}

/**
 * Reads {@link freeBytesHeaders}. A request that did not come through the api has no limits.
 * @throws ProductError `invalid_request`
 */
export function freeBytesOfHeaders(headers: IncomingHttpHeaders): FreeBytes {
  const values = [headers[OWN_HEADER], headers[TOTAL_HEADER]];
  if (values.every((value) => value === undefined)) return UNLIMITED;
  const [own = -1, total = -1] = values.map((value) => Number(value || Number.NaN));
  const isSize = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (isSize(own) && isSize(total)) return { own, total };
  throw new ProductError('invalid_request', `Only the api may send ${OWN_HEADER} and ${TOTAL_HEADER}.`);
}
