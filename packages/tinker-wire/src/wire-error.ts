/** A body that is not a message of the wire, or that asks for what is not served. Its message has the field and the reason. */
export class WireError extends Error {
  override readonly name = 'WireError';

  /** @param field the path of the field in the message, such as `data[3].loss_fn_inputs.weights` */
  constructor(field: string, reason: string) {
    super(`${field}: ${reason}`);
  }
}

/** A text of a client, quoted and short, for an error's message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
