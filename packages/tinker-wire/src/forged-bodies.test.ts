import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decodeForwardBackwardRequest } from './forward-backward-request.js';
import { WireError } from './wire-error.js';

const BODIES = Object.values<string>(
  JSON.parse(readFileSync(new URL('fixtures/wheel-bodies.json', import.meta.url), 'utf8')),
).map((body) => Buffer.from(body, 'base64'));

const FORGED = 20_000;
/** The most that one body may take. The least of three tries counts, since the machine has other work. */
const MOST_MS = 50;

/** A generator of 32 bits (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** A body with some bytes changed, put in, or taken out; or one that is cut, or made of two. */
function forge(random: (below: number) => number): Uint8Array {
  let body = Buffer.from(BODIES[random(BODIES.length)]!);
  const kind = random(8);
  if (kind === 0) return Buffer.from(Array.from({ length: random(200) }, () => random(256)));
  if (kind === 1) body = body.subarray(0, random(body.length));
  if (kind === 2) body = Buffer.concat([body, BODIES[random(BODIES.length)]!.subarray(random(20))]);
  for (let changes = 1 + random(4); changes > 0 && body.length > 0; changes--) {
    const at = random(body.length);
    const change = random(5);
    if (change === 0) body[at] = random(256);
    else if (change === 1) body[at]! ^= 1 << random(8);
    else if (change === 2) body.subarray(at, at + 1 + random(10)).fill(0xff);
    else if (change === 3) body = Buffer.concat([body.subarray(0, at), body.subarray(at + 1 + random(4))]);
    else body = Buffer.concat([body.subarray(0, at), Buffer.from([random(256), random(256)]), body.subarray(at)]);
  }
  return body;
}

/** @returns the time that it took, and `read` or the text of the refusal */
function decode(body: Uint8Array): { ms: number; end: string } {
  const started = performance.now();
  let end = 'read';
  try {
    decodeForwardBackwardRequest(body, { maxDatums: 1024, maxTokens: 4096 });
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    end = error.message;
  }
  return { ms: performance.now() - started, end };
}

test('a forged body is read or refused by a WireError, in little time', () => {
  const random = randomOf(20_261_204);
  const ends = new Map<string, number>();
  for (let index = 0; index < FORGED; index++) {
    const body = forge(random);
    const { ms, end } = decode(body);
    if (ms > MOST_MS) expect(Math.min(decode(body).ms, decode(body).ms)).toBeLessThan(MOST_MS);
    const reason = end.replaceAll(/\d+/g, '0').replace(/".*"/, '""');
    ends.set(reason, (ends.get(reason) ?? 0) + 1);
  }
  // The bodies reach most of the refusals, and some are still requests.
  expect(ends.size).toBeGreaterThan(60);
  expect(ends.get('read')).toBeGreaterThan(100);
});

test('each beginning of a body is read or refused by a WireError', () => {
  for (const body of BODIES) {
    for (let length = 0; length < body.length; length++) decode(body.subarray(0, length));
  }
});
