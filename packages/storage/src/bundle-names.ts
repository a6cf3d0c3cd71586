import { ProductError } from '@lorasmith/contracts';

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const FILE_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/;

/** Whether this is a valid id of a bundle, which is never a path. */
export function isBundleId(id: string): boolean {
  return ID.test(id);
}

/** Whether this is a valid name of a file in a bundle, which is never a path and never hidden. */
export function isBundleFileName(name: string): boolean {
  return FILE_NAME.test(name);
}

/** @throws ProductError `not_found` for an invalid id */
export function checkBundleId(kind: string, id: string): void {
  if (!isBundleId(id)) throw bundleNotFound(kind, `bundle ${JSON.stringify(id.slice(0, 140))}`);
}

/** @throws ProductError `not_found` for an invalid name */
export function checkBundleFileName(kind: string, id: string, name: string): void {
  if (!isBundleFileName(name)) throw bundleNotFound(kind, `file ${JSON.stringify(name.slice(0, 260))} of ${id}`);
}

export function bundleNotFound(kind: string, what: string): ProductError {
  return new ProductError('not_found', `There is no ${what} in ${kind}.`);
}
