import { ProductError } from '@lorasmith/contracts';

/** One dispatched event of a `text/event-stream`. */
export interface ServerSentEvent {
  /** The last event id so far; empty if the stream had none. */
  id: string;
  /** The event's type; `message` if the stream had none. */
  event: string;
  data: string;
}

/** The longest event is a report, with some kilobytes of module names. A longer one is not from the api. */
const MAX_EVENT_CHARACTERS = 16 * 1024 * 1024;

/**
 * Parses `text/event-stream` as specified in https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end
 * in CR, LF or CRLF, also across chunks; comments are skipped; an incomplete last event is dropped. `retry` is ignored,
 * because the client has its own delays.
 *
 * @throws ProductError `invalid_request` when an event is longer than 16 Mi characters
 */
export async function* parseEventStream(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  let id = '';
  let event = '';
  let data: string[] = [];
  let dataCharacters = 0;
  for await (const line of linesOf(chunks)) {
    if (line === '') {
      if (data.length > 0) yield { id, event: event || 'message', data: data.join('\n') };
      event = '';
      data = [];
      dataCharacters = 0;
      continue;
    }
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
    if (field === 'data') {
      dataCharacters += value.length;
      checkLength(dataCharacters);
      data.push(value);
    } else if (field === 'event') event = value;
    else if (field === 'id' && !value.includes('\0')) id = value;
  }
}

async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  let afterCarriageReturn = false;
  for await (const chunk of chunks) {
    let text = decoder.decode(chunk, { stream: true });
    if (text === '') continue;
    // The LF of a CRLF that was split between two chunks: its line has already been yielded at the CR.
    if (afterCarriageReturn && text[0] === '\n') text = text.slice(1);
    afterCarriageReturn = text === '' ? false : text.endsWith('\r');
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop() ?? '';
    checkLength(rest.length);
    yield* lines;
  }
}

function checkLength(characters: number): void {
  if (characters > MAX_EVENT_CHARACTERS) {
    throw new ProductError(
      'invalid_request',
      `An event of the stream is longer than ${MAX_EVENT_CHARACTERS} characters.`,
    );
  }
}
