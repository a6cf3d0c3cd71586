import { describe, expect, it } from 'vitest';
import { parseEventStream, type ServerSentEvent } from './event-stream-parser.js';

async function parse(...chunks: (string | Uint8Array)[]): Promise<ServerSentEvent[]> {
  async function* bytes() {
    for (const chunk of chunks) yield typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk;
  }
  const events: ServerSentEvent[] = [];
  for await (const event of parseEventStream(bytes())) events.push(event);
  return events;
}

// The examples of https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
describe('parseEventStream', () => {
  it('joins the data lines of one event', async () => {
    expect(await parse('data: YHOO\ndata: +2\ndata: 10\n\n')).toEqual([
      { id: '', event: 'message', data: 'YHOO\n+2\n10' },
    ]);
  });

  it('skips comments, and keeps the last id until another or an empty one', async () => {
    const stream =
      ': test stream\n\ndata: first event\nid: 1\n\ndata:second event\n\ndata: third\nid\n\ndata:  fourth event\nid: 7\n\n';
    expect(await parse(stream)).toEqual([
      { id: '1', event: 'message', data: 'first event' },
      { id: '1', event: 'message', data: 'second event' },
      { id: '', event: 'message', data: 'third' },
      { id: '7', event: 'message', data: ' fourth event' },
    ]);
  });

  it('returns empty data, and drops an incomplete last event', async () => {
    expect(await parse('data\n\ndata\ndata\n\ndata:')).toEqual([
      { id: '', event: 'message', data: '' },
      { id: '', event: 'message', data: '\n' },
    ]);
  });

  it('drops an event without data, and its type with it', async () => {
    expect(await parse('event: lost\n\nevent: kept\ndata: x\n\ndata: y\n\n')).toEqual([
      { id: '', event: 'kept', data: 'x' },
      { id: '', event: 'message', data: 'y' },
    ]);
  });

  it.each(['\n', '\r', '\r\n'])(
    'reads lines that end in %j, byte by byte, with characters of several bytes',
    async (end) => {
      const text = ['\uFEFFid: 1-0', 'event: step', 'data: {"größe":"█"}', '', 'data: 2', '', ''].join(end);
      const bytes = new TextEncoder().encode(text);
      const events = [
        { id: '1-0', event: 'step', data: '{"größe":"█"}' },
        { id: '1-0', event: 'message', data: '2' },
      ];
      expect(await parse(bytes)).toEqual(events);
      expect(await parse(...Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(events);
    },
  );

  it('ignores an id with a NUL', async () => {
    expect(await parse('id: a\0b\ndata: x\n\n')).toEqual([{ id: '', event: 'message', data: 'x' }]);
  });

  it('refuses an endless event instead of buffering it', async () => {
    const megabyte = 'x'.repeat(1024 * 1024);
    await expect(parse('data: ', ...Array.from({ length: 17 }, () => megabyte))).rejects.toThrow(
      /longer than 16777216/,
    );
    await expect(parse(...Array.from({ length: 17 }, () => `data: ${megabyte}\n`))).rejects.toThrow(/longer than/);
  });
});
