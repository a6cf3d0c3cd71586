import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import { safetensorsOf } from '../safetensors-bytes.js';

const CORRUPT = '422 model_file_corrupt';
const UNSUPPORTED = '422 model_not_supported';
const MISSING = '422 model_file_missing';
const TEMPLATE = '422 chat_template_failed';

type Content = string | Uint8Array;
let made = 0;

/** Plans a job with a copy of the base model in which one file is changed. Null removes the file. */
function changed(
  name: string,
  file: string,
  outcome: string,
  change: (content: string) => Content | null,
): HostileCase {
  return {
    name: `${file}: ${name}`,
    outcome,
    async send(stack) {
      const model = `hostile-${++made}`;
      const folder = path.join(stack.modelsDir, model);
      await cp(path.join(stack.modelsDir, 'tiny-llama'), folder, { recursive: true });
      try {
        const content = change(await readFile(path.join(folder, file), 'utf8').catch(() => ''));
        if (content === null) await rm(path.join(folder, file));
        else {
          await mkdir(path.dirname(path.join(folder, file)), { recursive: true });
          await writeFile(path.join(folder, file), content);
        }
        return await outcomeOf(stack, 'POST', '/jobs?dry_run=true', {
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ base_model: model, dataset: stack.dataset }),
        });
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}

const config = (name: string, fields: object, outcome = CORRUPT) =>
  changed(name, 'config.json', outcome, (text) => JSON.stringify({ ...JSON.parse(text), ...fields }));
const tokenizer = (name: string, change: (file: TokenizerFile) => object | string, outcome = CORRUPT) =>
  changed(name, 'tokenizer.json', outcome, (text) => {
    const result = change(JSON.parse(text));
    return typeof result === 'string' ? result : JSON.stringify(result);
  });
const template = (name: string, source: string | Uint8Array, outcome = TEMPLATE) =>
  changed(name, 'chat_template.jinja', outcome, () => source);
const weights = (name: string, content: Uint8Array, outcome = CORRUPT) =>
  changed(name, 'model.safetensors', outcome, () => content);

interface TokenizerFile {
  added_tokens: { id: number; content: string }[];
  model: { vocab: Record<string, number> };
  [part: string]: unknown;
}

const configs: HostileCase[] = [
  changed('missing', 'config.json', MISSING, () => null),
  changed('empty', 'config.json', CORRUPT, () => ''),
  changed('cut off', 'config.json', CORRUPT, (text) => text.slice(0, 100)),
  changed('a list', 'config.json', CORRUPT, () => '[]'),
  changed('invalid UTF-8', 'config.json', CORRUPT, () => Buffer.from([0x7b, 0xff, 0x7d])),
  changed('200,000 levels', 'config.json', CORRUPT, () => '['.repeat(200_000)),
  changed('5 MB', 'config.json', CORRUPT, (text) => text.padEnd(5_000_000)),
  changed('all fields in __proto__', 'config.json', CORRUPT, (text) => `{"__proto__": ${text}}`),
  config('code to load', { auto_map: { AutoModel: 'evil.Model' } }, UNSUPPORTED),
  config('an unknown type', { model_type: 'constructor' }, UNSUPPORTED),
  config('a type that is an object', { model_type: {} }),
  config('quantized', { quantization_config: { bits: 4 } }, UNSUPPORTED),
  config('no layers', { num_hidden_layers: 0 }),
  config('2^40 layers', { num_hidden_layers: 2 ** 40 }),
  config('a million layers', { num_hidden_layers: 1_000_000 }),
  config('a negative width', { hidden_size: -48 }),
  config('a fractional width', { hidden_size: 48.5 }),
  config('a width as a string', { hidden_size: '48' }),
  config('a width that differs from the weights', { hidden_size: 96, head_dim: 24 }),
  config('key-value heads that do not divide the attention heads', { num_key_value_heads: 3 }),
  config('a vocabulary of 2^31', { vocab_size: 2 ** 31 }),
  config('an end token outside the vocabulary', { eos_token_id: 10 ** 9 }),
  config('a negative end token', { eos_token_id: -1 }),
  config('an epsilon of 0', { rms_norm_eps: 0 }),
  config('a negative rope theta', { rope_theta: -1, rope_parameters: null }),
  config('an unknown activation', { hidden_act: '__proto__' }, UNSUPPORTED),
];

const tokenizers: HostileCase[] = [
  changed('missing', 'tokenizer.json', MISSING, () => null),
  tokenizer('empty', () => ''),
  tokenizer('no model', () => ({})),
  tokenizer('100,000 levels', () => `{"model": ${'['.repeat(100_000)}`),
  tokenizer('a vocabulary that is a number', (file) => ({ ...file, model: { ...file.model, vocab: 7 } })),
  tokenizer('an id that is not a safe integer', (file) => ({
    ...file,
    model: { ...file.model, vocab: { a: 2 ** 53 } },
  })),
  tokenizer('a negative id', (file) => ({ ...file, model: { ...file.model, vocab: { a: -1 } } })),
  tokenizer('an id as a string', (file) => ({ ...file, model: { ...file.model, vocab: { a: '1' } } })),
  tokenizer("ids outside the model's vocabulary", (file) => {
    const vocab = Object.fromEntries(Object.entries(file.model.vocab).map(([token, id]) => [token, id + 100_000]));
    return { ...file, model: { ...file.model, vocab } };
  }),
  tokenizer('an added token that is null', (file) => ({ ...file, added_tokens: [null] })),
  tokenizer('an added token outside the vocabulary', (file) => ({
    ...file,
    added_tokens: [...file.added_tokens, { id: 99_999, content: 'S', special: true }],
  })),
  tokenizer(
    'an empty added token',
    (file) => ({
      ...file,
      added_tokens: [...file.added_tokens, { id: 50, content: '', special: true }],
    }),
    '200',
  ),
  tokenizer('merges that are not a list', (file) => ({ ...file, model: { ...file.model, merges: 'a b' } })),
  tokenizer('merges of numbers', (file) => ({ ...file, model: { ...file.model, merges: [1, 2] } })),
  tokenizer('an unknown type', (file) => ({ ...file, model: { ...file.model, type: '__proto__' } }), UNSUPPORTED),
  tokenizer(
    'an expression that backtracks',
    (file) => ({
      ...file,
      pre_tokenizer: {
        type: 'Split',
        pattern: { Regex: '(\\w+\\s?)+\\d\\z|(x+x+)+y' },
        behavior: 'Isolated',
        invert: false,
      },
    }),
    UNSUPPORTED,
  ),
  tokenizer('an unknown step', (file) => ({ ...file, pre_tokenizer: { type: 'Evil' } })),
  tokenizer('a step that is a number', (file) => ({ ...file, normalizer: 7 })),
  changed('130 levels of JSON', 'tokenizer_config.json', CORRUPT, () => '[]'),
  changed('a template that is a number', 'tokenizer_config.json', '200', () => '{"chat_template": 7}'),
];

const doubled = (times: number) => `{% set l = ["a"] %}${'{% set l = [l, l] %}'.repeat(times)}`;

const templates: HostileCase[] = [
  template('does not parse', '{% for'),
  template('invalid UTF-8', Buffer.from([0xff, 0xfe]), CORRUPT),
  template('2 MB', 'x'.repeat(2_000_000), CORRUPT),
  template('50,000 brackets', `{{ ${'('.repeat(50_000)} }}`),
  template(
    'endless loops',
    '{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}',
  ),
  template('an endless range', '{% for a in range(1000000000000) %}{% endfor %}'),
  template('calls itself', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'),
  template('a text that doubles', `{% set t = "aaaaaaaaaaaaaaaa" %}${'{% set t = t + t %}'.repeat(60)}{{ t }}`),
  template('a list that doubles, written out', `${doubled(40)}{{ l | tojson }}`),
  template('a list that doubles, joined', `${doubled(40)}{{ l | string | length }}`),
  template('a list that doubles, compared', `${doubled(40)}{{ l == l }}{{ l }}`),
  template(
    'a text that replaces itself',
    `{% set t = "aaaa" %}${'{% set t = t | replace("a", t) %}'.repeat(10)}{{ t }}`,
  ),
  template('accesses the process', "{{ ''.constructor.constructor('return process')().exit() }}"),
  template('accesses __class__', '{{ messages.__class__.__mro__[1].__subclasses__() }}'),
  template('accesses __proto__', "{{ messages.__proto__.constructor('return 1')() }}"),
  template('reads a file', "{% include '/etc/passwd' %}"),
  template('ignores the messages', '{{ 7 }}', '422 no_trained_tokens'),
  template('splits a character', '{{ "\u{1f4a3}"[0] }}{{ messages[0].content }}'),
  template('refuses every conversation', "{{ raise_exception('no') }}"),
];

const ofWeights: HostileCase[] = [
  changed('missing', 'model.safetensors', MISSING, () => null),
  weights('empty', new Uint8Array()),
  weights('a header of 2^63 bytes', safetensorsOf('{}', 0, 2n ** 63n)),
  weights('a header past the end', safetensorsOf('{}', 0, 1_000n)),
  weights('no tensors', safetensorsOf({}), MISSING),
  changed(
    'a shard that is a path',
    'model.safetensors.index.json',
    '200',
    () => '{"weight_map": {"a": "../../secret.txt"}}',
  ),
];

const index = (name: string, outcome: string, content: string): HostileCase => {
  const withIndex = changed(name, 'model.safetensors.index.json', outcome, () => content);
  return {
    ...withIndex,
    async send(stack) {
      const model = `sharded-${++made}`;
      const folder = path.join(stack.modelsDir, model);
      await cp(path.join(stack.modelsDir, 'tiny-llama'), folder, { recursive: true });
      try {
        await rm(path.join(folder, 'model.safetensors'));
        await writeFile(path.join(folder, 'model.safetensors.index.json'), content);
        return await outcomeOf(stack, 'POST', '/jobs?dry_run=true', {
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ base_model: model, dataset: stack.dataset }),
        });
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
};

const indexes: HostileCase[] = [
  index('a shard with a path traversal', CORRUPT, '{"weight_map": {"a": "../../secret.txt"}}'),
  index('a shard that is an absolute path', CORRUPT, '{"weight_map": {"a": "/etc/passwd"}}'),
  index('a shard that is a number', CORRUPT, '{"weight_map": {"a": 7}}'),
  index('a missing shard', MISSING, '{"weight_map": {"a": "b.safetensors"}}'),
  index('no map', CORRUPT, '{}'),
  index('a map that is a list', CORRUPT, '{"weight_map": []}'),
  index(
    '20,000 shards',
    CORRUPT,
    JSON.stringify({
      weight_map: Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`t${i}`, `s${i}.safetensors`])),
    }),
  ),
];

export const modelFolders: HostileTable = {
  kind: 'base-model folders',
  cases: [...configs, ...tokenizers, ...templates, ...ofWeights, ...indexes],
};
