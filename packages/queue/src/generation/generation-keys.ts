/** The names of all Redis keys of requests for text. All start with the prefix, which needs a `{hash tag}` for a cluster. */
export interface GenerationKeys {
  /** Sorted set by the time until which it may wait: the requests that no worker has claimed, as `id base`. */
  waiting: string;
  /** String, for a few seconds unless renewed by the api that asks: a request as JSON. Without it nobody wants an answer. */
  request(id: string): string;
  /** String, for a few seconds unless renewed by the worker that answers: its name. */
  claim(id: string): string;
  /** List: pieces of the answer that the api has not read yet, as JSON. */
  pieces(id: string): string;
  /** Channel on which a request is announced to the workers. */
  requestChannel: string;
  /** Channel that receives the id of a request when its answer has a new piece. */
  pieceChannel: string;
}

export function generationKeys(prefix: string): GenerationKeys {
  return {
    waiting: `${prefix}generation:waiting`,
    request: (id) => `${prefix}generation:request:${id}`,
    claim: (id) => `${prefix}generation:claim:${id}`,
    pieces: (id) => `${prefix}generation:pieces:${id}`,
    requestChannel: `${prefix}generation:requests`,
    pieceChannel: `${prefix}generation:new-pieces`,
  };
}

/** The notice on `requestChannel`. */
export const NEW_REQUEST = 'new';
