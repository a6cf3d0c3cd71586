import { gzipSync } from 'node:zlib';
import { tarOf } from '../../../services/registry/test/tar-bytes.js';
import { unevenAdapter } from '../../../services/registry/test/uneven-adapter.js';
import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import type { HostileStack } from '../hostile-stack.js';
import { safetensorsOf } from '../safetensors-bytes.js';

type Peft = HostileStack['peft'];

const INVALID = '422 invalid_adapter';
const TAR = { 'content-type': 'application/x-tar' };

const send = (
  name: string,
  outcome: string,
  body: (peft: Peft) => Uint8Array | string,
  query = '?base_model=tiny-llama',
  headers: Record<string, string> = TAR,
): HostileCase => ({
  name,
  outcome,
  send: (stack) => outcomeOf(stack, 'POST', `/adapters${query}`, { headers, body: body(stack.peft) }),
});

const folder = (config: string | Uint8Array, weights: string | Uint8Array) =>
  tarOf([
    { name: 'adapter_config.json', content: config },
    { name: 'adapter_model.safetensors', content: weights },
  ]);
const config = (name: string, fields: object, outcome = INVALID) =>
  send(`config: ${name}`, outcome, ({ config: own, weights }) =>
    folder(JSON.stringify({ ...own, ...fields }), weights),
  );
const configText = (name: string, change: (text: string) => string | Uint8Array) =>
  send(`config: ${name}`, INVALID, ({ config: own, weights }) => folder(change(JSON.stringify(own)), weights));
const weights = (name: string, content: (own: Buffer) => Uint8Array | string) =>
  send(`weights: ${name}`, INVALID, ({ config: own, weights: theirs }) => folder(JSON.stringify(own), content(theirs)));

const Q = 'base_model.model.model.layers.0.self_attn.q_proj';

/** Malformed tar archives are tested in services/registry/test/hostile-tars.test.ts. */
const containers: HostileCase[] = [
  send('empty', '415 unsupported_media_type', () => ''),
  send('JSON', '415 unsupported_media_type', () => '{}', '', { 'content-type': 'application/json' }),
  send('a tar with the content type JSON', '415 unsupported_media_type', (peft) => folder('{}', peft.weights), '', {
    'content-type': 'application/json',
  }),
  send('a gzip bomb', '415 unsupported_media_type', () => gzipSync(Buffer.alloc(50_000_000))),
  send(
    'a gzip bomb with a content encoding',
    '415 unsupported_media_type',
    () => gzipSync(Buffer.alloc(50_000_000)),
    '',
    {
      ...TAR,
      'content-encoding': 'gzip',
    },
  ),
  send('a tar above the limit', '413 body_too_large', () => tarOf([{ name: 'x', content: Buffer.alloc(2_100_000) }])),
  send('a tar of 205 KB that would be stored as 4.6 MB', INVALID, (peft) => unevenAdapter(peft.config, 512)),
  send('a length of 2^53', '429 quota_exceeded', () => 'x', '', { ...TAR, 'content-length': '9007199254740993' }),
  send(
    'a base model that is a path',
    '400 invalid_request',
    (peft) => folder('{}', peft.weights),
    '?base_model=..%2f..',
  ),
  send(
    'a missing base model',
    '404 model_not_found',
    (peft) => folder(JSON.stringify(peft.config), peft.weights),
    '?base_model=toString',
  ),
  send('a name of 200 characters', '400 invalid_request', () => '', `?name=${'x'.repeat(200)}`),
  send('an unknown parameter', '400 unknown_field', () => '', '?owner=root'),
];

const configs: HostileCase[] = [
  configText('empty', () => ''),
  configText('cut in half', (text) => text.slice(0, 40)),
  configText('invalid UTF-8', () => Buffer.from([0x7b, 0xff, 0x7d])),
  configText('a list', () => '[]'),
  configText('100,000 levels', () => '['.repeat(100_000)),
  configText('required fields in __proto__', () => '{"__proto__": {"peft_type": "LORA", "r": 4, "lora_alpha": 8}}'),
  configText('an alpha that overflows to infinity', (text) => text.replace(/"lora_alpha": ?8/, '"lora_alpha": 1e999')),
  config('rank 0', { r: 0 }),
  config('a rank as a string', { r: '4' }),
  config('a rank that is not a safe integer', { r: 2 ** 53 }),
  config('an alpha below 0', { lora_alpha: -8 }),
  config('dropout 1', { lora_dropout: 1 }),
  config('an expression whose compiled size explodes', { rank_pattern: { '((((a{9}){9}){9}){9}){9}': 4 } }),
  config('an expression with a look-ahead', { rank_pattern: { '(?=x)x': 4 } }),
  config('70 expressions', {
    alpha_pattern: Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`x{${i + 1}}|y`, 4])),
  }),
  config('a key of 600 characters', { rank_pattern: { ['x'.repeat(600)]: 4 } }),
  config('another method', { peft_type: 'PREFIX_TUNING' }),
  ...['peft_type', 'use_dora', 'bias', 'init_lora_weights', 'r'].map((field) =>
    configText(`20,000 nested lists as ${field}`, (text) =>
      JSON.stringify({ ...JSON.parse(text), [field]: 'HERE' }).replace(
        '"HERE"',
        `${'['.repeat(20_000)}${']'.repeat(20_000)}`,
      ),
    ),
  ),
  config('an initialization that changes the base weights', { init_lora_weights: 'pissa' }),
  config(
    'code to load, which is not stored',
    { auto_mapping: { base_model_class: 'os', parent_library: 'os.system' } },
    '201',
  ),
];

const ofWeights: HostileCase[] = [
  weights('empty', () => ''),
  weights('a pickle', () => Buffer.from('\x80\x02}q\x00.', 'latin1')),
  weights('cut off', (own) => own.subarray(0, -8)),
  weights('with trailing bytes', (own) => Buffer.concat([own, Buffer.alloc(8)])),
  weights('a header of 2^64 - 1 bytes', () => Buffer.alloc(64, 0xff)),
  weights('a tensor name that is not of LoRA', () =>
    safetensorsOf({ x: { dtype: 'F32', shape: [2, 2], data_offsets: [0, 16] } }, 16),
  ),
  weights('a tensor name of 1 MB', () =>
    safetensorsOf({ ['x'.repeat(1_000_000)]: { dtype: 'F32', shape: [2, 2], data_offsets: [0, 16] } }, 16),
  ),
  weights('a type that is an object', () =>
    safetensorsOf({ x: { dtype: { toString: 1 }, shape: [2, 2], data_offsets: [0, 16] } }, 16),
  ),
  weights('a type of 20,000 nested lists', () =>
    safetensorsOf(
      `{"x": {"dtype": ${'['.repeat(20_000)}${']'.repeat(20_000)}, "shape": [2, 2], "data_offsets": [0, 16]}}`,
      16,
    ),
  ),
  weights('only A', () =>
    safetensorsOf({ [`${Q}.lora_A.weight`]: { dtype: 'F32', shape: [4, 48], data_offsets: [0, 768] } }, 768),
  ),
  weights('integers', () =>
    safetensorsOf(
      {
        [`${Q}.lora_A.weight`]: { dtype: 'I32', shape: [4, 48], data_offsets: [0, 768] },
        [`${Q}.lora_B.weight`]: { dtype: 'I32', shape: [48, 4], data_offsets: [768, 1536] },
      },
      1536,
    ),
  ),
  weights('only NaN', (own) => {
    const changed = Buffer.from(own);
    return changed.fill(0xff, 8 + Number(changed.readBigUInt64LE()));
  }),
  weights('for layers that the base model lacks', (own) =>
    Buffer.from(own.toString('latin1').replaceAll('layers.0', 'layers.7'), 'latin1'),
  ),
];

export const adapterTars: HostileTable = { kind: 'adapters', cases: [...containers, ...configs, ...ofWeights] };
