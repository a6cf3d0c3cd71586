import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { linkSignals } from './shutdown.js';

const links = ({ signal }: AbortController) => getEventListeners(signal, 'abort').length;

test('a linked signal is aborted with the first of its sources, which then keep nothing of it', () => {
  const [process, request] = [new AbortController(), new AbortController()];
  const { signal } = linkSignals([request.signal, process.signal]);
  expect([signal.aborted, links(process), links(request)]).toEqual([false, 1, 1]);
  request.abort('left');
  expect([signal.aborted, signal.reason, links(process), links(request)]).toEqual([true, 'left', 0, 0]);
  process.abort('closing');
  expect(signal.reason).toBe('left');
});

test('a source that is aborted already aborts what is linked to it', () => {
  const [process, request] = [new AbortController(), new AbortController()];
  process.abort('closing');
  const { signal } = linkSignals([request.signal, process.signal]);
  expect([signal.reason, links(process), links(request)]).toEqual(['closing', 0, 0]);
});

test('an unlinked signal follows its sources no more', () => {
  const process = new AbortController();
  const { signal, unlink } = linkSignals([process.signal]);
  unlink();
  expect(links(process)).toBe(0);
  process.abort();
  expect(signal.aborted).toBe(false);
});

test('any number of signals may follow one', async () => {
  const warnings: string[] = [];
  const onWarning = ({ message }: Error) => warnings.push(message);
  process.on('warning', onWarning);
  const closing = new AbortController();
  const linked = Array.from({ length: 100 }, () => linkSignals([closing.signal]));
  // A warning is emitted in the next tick.
  await new Promise((done) => setImmediate(done));
  process.off('warning', onWarning);
  expect(warnings).toEqual([]);
  closing.abort();
  expect(linked.every(({ signal }) => signal.aborted)).toBe(true);
});
