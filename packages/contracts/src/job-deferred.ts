/** A run cannot begin in this process now, beside those that it has. Nothing was changed; it can begin later, or in another process. */
export class JobDeferred extends Error {
  override readonly name = 'JobDeferred';
}
